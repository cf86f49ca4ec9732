"""Tells whether the workers have a connection to Airflow itself, or are without it on purpose."""

from __future__ import annotations

from include import connections
from include.outcome import ConfigurationError
from include.settings import settings


def is_given(connection_id: str) -> bool:
    """Whether a connection is defined; False where ``maintenance.airflow.without_connections`` names it.

    Raises ConfigurationError when it is neither: work that nobody does must not look like work that is not wanted.
    """
    if connections.is_defined(connection_id):
        return True
    if connection_id in settings().maintenance.airflow.without_connections:
        return False
    raise ConfigurationError(
        f"the connection {connection_id} is not defined; set AIRFLOW_CONN_{connection_id.upper()} for the workers, or "
        "name it in maintenance.airflow.without_connections if they are not to have it (docs/deploy.md, Airflow looks "
        "after itself)"
    )


def left_out(connection_id: str, what: str) -> str:
    """The reason why something is not done here on purpose."""
    return f"{what} on purpose: maintenance.airflow.without_connections names {connection_id}"
