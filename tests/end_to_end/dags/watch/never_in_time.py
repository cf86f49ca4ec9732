"""A run that misses its deadline, for the end-to-end test."""

import time
from datetime import timedelta

from airflow.sdk import task

from include.dagkit import Chapter, Tier, operations_dag

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MONITORING,
    tier=Tier.CRITICAL,
    schedule=None,
    run_deadline=timedelta(seconds=2),
):

    @task
    def take_too_long() -> None:
        """Be at work when the deadline passes."""
        time.sleep(15)

    take_too_long()
