"""Findings of the checks that change nothing, and the weekly snapshots that they compare with."""

from include.warehouse.migrate import run_sql_file

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and the view."""
    run_sql_file("0006_findings.up.sql")


def downgrade() -> None:
    """Drop the tables and the view, with what they hold."""
    run_sql_file("0006_findings.down.sql")
