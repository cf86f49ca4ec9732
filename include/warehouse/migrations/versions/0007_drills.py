"""Drills: backup verifications, restorations and failovers that were tried, stage by stage."""

from include.warehouse.migrate import run_sql_file

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0007_drills.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0007_drills.down.sql")
