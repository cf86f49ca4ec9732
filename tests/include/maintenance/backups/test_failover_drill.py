"""The failover drill on real servers of both versions: what it measures, what it refuses, what it leaves behind."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.maintenance.backups import failover_drill, heartbeat
from include.maintenance.backups.drill_stages import Stages
from include.maintenance.backups.failover_drill import Plan
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import postgres_binaries
from include.platform.scratch_place import ScratchPlace, scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome
from tests.include.maintenance.backups.drill_places import own_scratch_folder


@pytest.fixture
def scratch_folder(environment: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_scratch_folder(environment) as folder:
        yield folder


@pytest.fixture
def place(scratch_folder: Path, warehouse: psycopg.Connection) -> Iterator[ScratchPlace]:
    with scratch_place("test") as place:
        yield place


def primary_of(place: ScratchPlace, major: int, *, checksums: bool = True) -> ScratchServer:
    """A scratch server with a table in it, as a restored backup would be."""
    server = new_server(place, "primary", major)
    server.initialise(checksums=checksums)
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE TABLE payload AS SELECT n, repeat('x', 100) FROM generate_series(1, 2000) AS n")
    return server


def begin(plan: Plan) -> Drill:
    return drills.begin("failover", plan.resource, "run", rpo_target_seconds=5, rto_target_seconds=60)


def old_version() -> int:
    try:
        postgres_binaries.find(15)
    except ConfigurationError as error:
        pytest.skip(str(error))
    return 15


def outcomes(drill: Drill) -> dict[str, str]:
    return {stage.name: stage.outcome.value for stage in drills.stages_of(drill)}


STAGES = [
    "build_standby", "heartbeat", "end_primary", "promote_standby", "writing_goes_on", "lost_writes",
    "negative_control", "rewind_old_primary", "rejoin_old_primary", "targets",
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "plan"),
    [
        (18, Plan("nightly", 0.01, 0.5, "remote_apply", "kill")),
        (18, Plan("nightly", 0.01, 0.5, "off", "immediate")),
        (15, Plan("nightly", 0.01, 0.5, "on", "kill")),
    ],
    ids=["18-remote_apply-kill", "18-off-immediate", "15-on-kill-without-checksums"],
)
def test_a_failover_is_measured_and_the_old_primary_follows(
    place: ScratchPlace, monkeypatch: pytest.MonkeyPatch, version: int, plan: Plan
) -> None:
    looked_at, bring_back = [], failover_drill._bring_back

    def look(stages: Stages, old: ScratchServer, new: ScratchServer) -> None:
        bring_back(stages, old, new)
        with old.connect() as connection:
            assert connection.execute("SELECT pg_is_in_recovery(), count(*) FROM payload").fetchone() == (True, 2000)
            assert -1 not in heartbeat.held(connection), "what it had written on its own is gone"
            streams = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
            assert connection.execute(streams).fetchone() == (1,)
        looked_at.append("the old primary follows")

    monkeypatch.setattr(failover_drill, "_bring_back", look)
    major = old_version() if version == 15 else 18
    primary = primary_of(place, major, checksums=version != 15)
    drill = begin(plan)
    summary = failover_drill.run(plan, Stages(drill), primary)
    found = drills.find("failover", plan.resource, "run")
    assert found is not None
    assert found.outcome is DrillOutcome.PASSED, found.reason
    assert list(outcomes(found)) == STAGES
    assert set(outcomes(found).values()) == {"passed"}
    assert found.rto_seconds == summary["rto_seconds"]
    assert found.rto_seconds is not None
    assert 0 < found.rto_seconds < 30
    # A standby on the same machine has everything, unless the primary ends before it has sent what it did not wait for.
    assert summary["lost_writes"] <= (3 if plan.synchronous == "off" else 0)
    assert found.rpo_seconds is not None
    assert found.rpo_seconds <= (1 if plan.synchronous == "off" else 0)
    detail = {stage.name: stage.detail for stage in drills.stages_of(found)}
    assert detail["lost_writes"]["acknowledged"] > 25
    assert detail["rewind_old_primary"] == {"rewound": True}
    assert looked_at == ["the old primary follows"]


def test_writes_that_the_standby_never_got_are_found(place: ScratchPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("nightly", 0.01, 0.3, "off")
    drill, primary, original = begin(plan), primary_of(place, 18), failover_drill.guard

    def cut_off(place: ScratchPlace, server: ScratchServer) -> None:
        """The network between the servers breaks half a second before the primary does."""
        original(place, server)
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET max_wal_senders = 0")
            pids = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_replication")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)

    monkeypatch.setattr(failover_drill, "guard", cut_off)
    summary = failover_drill.run(plan, Stages(drill), primary)
    assert summary["lost_writes"] > 5
    assert 0.3 < summary["rpo_seconds"] < 10
    detail = {stage.name: stage.detail for stage in drills.stages_of(drill)}["lost_writes"]
    assert detail["lost"] == summary["lost_writes"]


def test_a_loss_with_a_synchronous_standby_fails_the_drill(
    place: ScratchPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("nightly", 0.01, 0.2, "on")
    drill, primary = begin(plan), primary_of(place, 18)
    real = heartbeat.held
    monkeypatch.setattr(heartbeat, "held", lambda connection: real(connection) - {2})
    with pytest.raises(MaintenanceFailed, match="1 writes were lost although the standby was synchronous"):
        failover_drill.run(plan, Stages(drill), primary)
    found = drills.find("failover", plan.resource, "run")
    assert found is not None
    assert found.outcome is DrillOutcome.FAILED
    assert outcomes(found)["lost_writes"] == "failed"


def test_a_missed_target_fails_the_drill(place: ScratchPlace, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__FAILOVER__UNAVAILABLE_SECONDS", "0.001")
    settings.cache_clear()
    plan = Plan("nightly", 0.01, 0.2)
    drill = begin(plan)
    with pytest.raises(MaintenanceFailed, match="targets were missed: writing was impossible for"):
        failover_drill.run(plan, Stages(drill), primary_of(place, 18))
    found = drills.find("failover", plan.resource, "run")
    assert found is not None
    assert found.outcome is DrillOutcome.FAILED
    assert found.rto_seconds is not None, "what was measured is kept"


# ------------------------------------------------------------------------------------------------- the guard
def test_the_platforms_server_and_that_of_another_drill_are_refused(
    place: ScratchPlace, platform: psycopg.Connection
) -> None:
    with pytest.raises(ConfigurationError, match="refuses to end this server"):
        failover_drill.guard_connection(platform, place)
    server = primary_of(place, 18)
    failover_drill.guard(place, server)
    with scratch_place("another") as other, pytest.raises(ConfigurationError, match="refuses to end this server"):
        failover_drill.guard(other, server)
    server.stop("immediate")
