"""Signals of the callbacks and the incidents they become."""

from include.warehouse.migrate import run_sql_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_file("0004_signals_and_incidents.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    run_sql_file("0004_signals_and_incidents.down.sql")
