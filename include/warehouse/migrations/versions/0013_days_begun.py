"""A rollup says how many of its days were not computed whole: a correction beside such a day is not held up."""

from include.warehouse.migrate import run_sql_file

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    run_sql_file("0013_days_begun.up.sql")


def downgrade() -> None:
    """Drop it."""
    run_sql_file("0013_days_begun.down.sql")
