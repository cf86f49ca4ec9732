"""Readings of indexes and queries are a primary's own: what their server is named by."""

from include.warehouse.migrate import run_sql_file

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say in the comments that the name holds the timeline after a promotion."""
    run_sql_file("0016_servers_of_readings.up.sql")


def downgrade() -> None:
    """Bring the comments back."""
    run_sql_file("0016_servers_of_readings.down.sql")
