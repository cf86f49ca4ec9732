"""Archives with chained manifests, partitions on their way out, legal holds."""

from include.warehouse.migrate import run_sql_file

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and widen ops.archive."""
    run_sql_file("0008_archives_and_legal_holds.up.sql")


def downgrade() -> None:
    """Drop the tables, with what they hold, and what was added to ops.archive."""
    run_sql_file("0008_archives_and_legal_holds.down.sql")
