"""Drills are acts of maintenance too: each has its row beside that of ops.drill."""

from include.warehouse.migrate import run_sql_file

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Name the kinds of acts, and write the rows of the drills that there are."""
    run_sql_file("0012_drills_are_acts.up.sql")


def downgrade() -> None:
    """Remove those rows and restore the comment."""
    run_sql_file("0012_drills_are_acts.down.sql")
