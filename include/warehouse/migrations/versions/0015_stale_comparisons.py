"""A report is stale as well when the days that it is compared with have changed."""

from include.warehouse.migrate import run_sql_file

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say so in the comment; the reports of the last weeks are rendered again by the next run."""
    run_sql_file("0015_stale_comparisons.up.sql")


def downgrade() -> None:
    """Bring the comment back."""
    run_sql_file("0015_stale_comparisons.down.sql")
