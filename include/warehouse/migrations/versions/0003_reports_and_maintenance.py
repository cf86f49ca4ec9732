"""Rendered reports, maintenance actions with their proof, archives."""

from include.warehouse.migrate import run_sql_file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0003_reports_and_maintenance.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0003_reports_and_maintenance.down.sql")
