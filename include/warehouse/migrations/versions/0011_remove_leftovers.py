"""Old findings and snapshots are removed, as an act of maintenance of its own."""

from include.warehouse.migrate import run_sql_file

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Name the kind of act, and how long definitions are kept."""
    run_sql_file("0011_remove_leftovers.up.sql")


def downgrade() -> None:
    """Restore the comments."""
    run_sql_file("0011_remove_leftovers.down.sql")
