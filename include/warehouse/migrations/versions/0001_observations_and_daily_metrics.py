"""What the watch observed, and the metrics of each day."""

from include.warehouse.migrate import run_sql_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0001_observations_and_daily_metrics.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0001_observations_and_daily_metrics.down.sql")
