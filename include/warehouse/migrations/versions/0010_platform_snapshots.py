"""Snapshots of the platform's database, which the monthly checks compare with."""

from include.warehouse.migrate import run_sql_file

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0010_platform_snapshots.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0010_platform_snapshots.down.sql")
