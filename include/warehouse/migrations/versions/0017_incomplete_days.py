"""Rollups say how many of their days are incomplete, and sums of money are exact."""

from include.warehouse.migrate import run_sql_file

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, let the stored rollups be made again, and take the scale from the sums."""
    run_sql_file("0017_incomplete_days.up.sql")


def downgrade() -> None:
    """Drop the columns and round the sums to cents."""
    run_sql_file("0017_incomplete_days.down.sql")
