"""Archives have a content hash of another kind from their format 3 on."""

from include.warehouse.migrate import run_sql_file

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what the hash is; those of older archives stay as they are."""
    run_sql_file("0019_sorted_content_hash.up.sql")


def downgrade() -> None:
    """Say what it was before."""
    run_sql_file("0019_sorted_content_hash.down.sql")
