"""Maintenance acts may be postponed to the next run."""

from include.warehouse.migrate import run_sql_file

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Allow the state and index the acts of a resource."""
    run_sql_file("0009_postponed_actions.up.sql")


def downgrade() -> None:
    """Forbid the state again; postponed acts then read as nothing to do."""
    run_sql_file("0009_postponed_actions.down.sql")
