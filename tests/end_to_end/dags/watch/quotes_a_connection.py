"""A task that quotes a connection in its log, as a library may, for the end-to-end test."""

import logging

from airflow.sdk import task

from include import connections
from include.dagkit import Chapter, Tier, operations_dag

with operations_dag(__file__, __doc__, chapter=Chapter.MONITORING, tier=Tier.STANDARD, schedule=None):

    @task
    def quote() -> None:
        """Log the warehouse's address with its password."""
        logging.getLogger("a.library").error("cannot connect to %s", connections.postgres_url("warehouse"))

    quote()
