"""Requests that became a connection of another protocol have no response time."""

from include.warehouse.migrate import run_sql_file

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns that count them, and leave them out of the averages."""
    run_sql_file("0018_upgraded_requests.up.sql")


def downgrade() -> None:
    """Drop the columns and average over all requests."""
    run_sql_file("0018_upgraded_requests.down.sql")
