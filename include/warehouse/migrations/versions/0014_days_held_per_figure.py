"""Days are held per figure: those before the first fee, the first rating or a component's first day are not."""

from include.warehouse.migrate import run_sql_file

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Correct the stored rollups and the comments."""
    run_sql_file("0014_days_held_per_figure.up.sql")


def downgrade() -> None:
    """Bring the comments back; the corrected numbers stay."""
    run_sql_file("0014_days_held_per_figure.down.sql")
