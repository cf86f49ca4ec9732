"""Weekly and monthly rollups of the daily metrics."""

from include.warehouse.migrate import run_sql_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0002_rollups.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0002_rollups.down.sql")
