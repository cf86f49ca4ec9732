"""Stages are recorded as what they were, also when the task is ended amid one."""

import psycopg
import pytest

from include.maintenance.backups.backup_checks import Result
from include.maintenance.backups.drill_stages import Stages, errors_named
from include.outcome import ConfigurationError
from include.platform.scratch_place import scratch_place
from include.warehouse import drills
from include.warehouse.drills import DrillOutcome
from tests.include.maintenance.backups.backup_platform import stages as stages_of


class AirflowTaskTimeout(BaseException):
    """As Airflow's own, which is no Exception."""


@pytest.mark.parametrize("way", ["stage", "check"])
def test_a_time_limit_amid_a_stage_is_recorded(warehouse: psycopg.Connection, way: str) -> None:
    drill = drills.begin("failover", "nightly", "r1")

    stages = Stages(drill)

    def reached() -> Result:
        raise AirflowTaskTimeout

    def rehearsed() -> None:
        with drills.failures_recorded(drill), scratch_place("test") as place:
            if way == "check":
                stages.check("restore", reached, place)
            with stages.stage("restore"):
                reached()

    with pytest.raises(AirflowTaskTimeout):
        rehearsed()
    stage = stages_of(drill)["restore"]
    assert stage.outcome.value == "unknown"
    assert "the time limit of the task was reached" in stage.reason
    ended = drills.find("failover", "nightly", "r1")
    assert ended is not None
    assert ended.outcome is DrillOutcome.COULD_NOT_RUN


def test_a_backup_that_the_worker_may_not_read_is_named() -> None:
    def read() -> Result:
        raise PermissionError(13, "Permission denied", "/platform/backups/a.dump")

    with (
        scratch_place("test") as place,
        pytest.raises(ConfigurationError, match="^/platform/backups/a.dump cannot be read by the account of the work"),
    ):
        errors_named(read, place)
