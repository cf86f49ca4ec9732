"""Which weeks and months were announced as ready to be rolled up."""

from include.warehouse.migrate import run_sql_file

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    run_sql_file("0005_rollup_announcement.up.sql")


def downgrade() -> None:
    """Drop the table, with what it holds."""
    run_sql_file("0005_rollup_announcement.down.sql")
