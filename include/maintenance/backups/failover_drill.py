"""Rehearses a failover on scratch servers: what is lost, and for how long nothing can be written.

The newest backup becomes a primary, a copy of it streams as its standby, a heartbeat is written, the primary is killed,
the standby promoted, and the old primary, which in the meantime wrote something that nobody else has, is rewound and
made to follow. The platform's own servers are never touched.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from include.maintenance.backups import backup_sources, drill_stages, heartbeat
from include.maintenance.backups.drill_stages import Stages
from include.maintenance.backups.heartbeat import Loss, Writer
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backups, replication
from include.platform.replication import Synchronous
from include.platform.scratch_place import MARKER, PREFIX, ScratchPlace, scratch_place
from include.platform.scratch_server import ScratchServer
from include.settings import settings
from include.warehouse import drills
from include.warehouse.drills import DrillOutcome

if TYPE_CHECKING:
    import psycopg

KIND = "failover"
DATABASE = "postgres"
_RESUME_SECONDS = 120.0  # how long writing may stay impossible before the drill gives up
_BEATS_AFTER = 20
_STRAY = -1  # the heartbeat that the old primary writes when it comes back alone

Failure = Literal["kill", "immediate"]
"""How the primary ends: all its processes by SIGKILL, or an immediate shutdown; neither writes a checkpoint."""


@dataclass(frozen=True)
class Plan:
    """How a failover is rehearsed: ``interval_seconds`` between heartbeats, ``load_seconds`` until the failure."""

    source: str
    interval_seconds: float = 0.02
    load_seconds: float = 5.0
    synchronous: Synchronous = "off"
    failure: Failure = "kill"

    @property
    def resource(self) -> str:
        """Name of what is rehearsed: drills of one resource are compared with each other."""
        return f"{self.source}, synchronous {self.synchronous}"


def rehearse(plan: Plan, run_id: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Rehearse a failover of the newest backup of a source and record it; return small facts.

    With ``dry_run`` it says which backup would be used and changes nothing. Raises MaintenanceFailed (the drill
    failed: a step did not work, acknowledged writes of a synchronous standby were lost, or a target was missed),
    ConfigurationError or SourceUnavailable (it could not run).
    """
    rule = backups.source_of(plan.source)
    origin = backup_sources.origin_of(rule)
    if dry_run:

        def planned() -> dict[str, Any]:
            newest = origin.newest()[0]
            known = {"backup": newest.name, "bytes": newest.bytes}
            return known | {"failure": plan.failure, "load_seconds": plan.load_seconds}

        return drill_stages.dry_run(KIND, plan.resource, run_id, planned)
    targets = settings().failover
    drill = drills.begin(
        KIND, plan.resource, run_id,
        rpo_target_seconds=targets.lost_seconds, rto_target_seconds=targets.unavailable_seconds,
    )  # fmt: skip
    if drill.done:
        return drill.summary()
    with drills.failures_recorded(drill), scratch_place(f"failover drill of {plan.source}, run {run_id}") as place:
        stages = Stages(drill)
        restored = stages.restore(origin, stages.find_backup(origin), place, copies=2)
        return run(plan, stages, restored.server)


def run(plan: Plan, stages: Stages, primary: ScratchServer) -> dict[str, Any]:
    """Fail over from a scratch server that holds the restored data to a copy of it, and finish the drill.

    The server may be running with any settings; it is started again, and stopped in the end. Raises as ``rehearse``
    does.
    """
    with ExitStack() as stack:
        stack.callback(primary.stop, "immediate")
        standby = _build(plan, stages, primary, stack)
        loss = _fail_over(plan, stages, primary, standby)
        _bring_back(stages, primary, standby)
    return _finish(plan, stages, loss)


def guard(place: ScratchPlace, server: ScratchServer) -> None:
    """Refuse to kill anything but a scratch server of this drill.

    The server itself is asked where its data lie: that must be within the drill's own place, which bears the marker
    of a scratch folder. Raises ConfigurationError.
    """
    with server.connect() as connection:
        guard_connection(connection, place)


def guard_connection(connection: psycopg.Connection[Any], place: ScratchPlace) -> None:
    """As ``guard``, for the server at the end of a connection."""
    row = connection.execute(
        "SELECT setting FROM pg_settings WHERE name = 'data_directory'"  # absent without the right to read it
    ).fetchone()
    inside = bool(row) and Path(row[0]).resolve().is_relative_to(place.folder.resolve()) if row else False
    marked = place.folder.name.startswith(PREFIX) and (place.folder / MARKER).is_file()
    if not inside or not marked or connection.info.hostaddr:
        raise ConfigurationError(
            "a failover drill refuses to end this server: it does not lie in the drill's scratch folder"
        )


# ----------------------------------------------------------------------------------------------------- stages
def _build(plan: Plan, stages: Stages, primary: ScratchServer, stack: ExitStack) -> ScratchServer:
    with stages.stage("build_standby") as detail:
        primary.stop()
        primary.start(replication.PRIMARY_SETTINGS, durable=True)
        with primary.connect(DATABASE) as connection:
            connection.execute(heartbeat.CREATE)
        standby = replication.build_standby(primary)
        stack.callback(standby.stop, "immediate")
        replication.follow(standby, primary)
        detail["bytes_behind_at_first"] = replication.wait_until_streaming(primary, standby)
        replication.set_synchronous(primary, standby, plan.synchronous)
    return standby


def _fail_over(plan: Plan, stages: Stages, primary: ScratchServer, standby: ScratchServer) -> Loss:
    writer = Writer(partial(_connect_as_client, primary, standby, plan.synchronous), plan.interval_seconds)
    with writer:
        with stages.stage("heartbeat") as detail:
            if not writer.wait_for_more(3, 30):
                raise MaintenanceFailed("no heartbeat was acknowledged within 30 s")
            time.sleep(plan.load_seconds)
            detail |= {"acknowledged": len(writer.acknowledged), "interval_seconds": plan.interval_seconds}
        guard(primary.place, primary)
        with stages.stage("end_primary") as detail:
            detail["failure"] = plan.failure
            primary.kill() if plan.failure == "kill" else primary.stop("immediate")
            failed_at = time.monotonic()
        with stages.stage("promote_standby"):
            replication.promote(standby)
        with stages.stage("writing_goes_on") as detail:
            resumed = writer.wait_for_more(_BEATS_AFTER, _RESUME_SECONDS)
            detail["acknowledged"] = len(writer.acknowledged)
            if not resumed:
                raise MaintenanceFailed(f"clients could not write again within {_RESUME_SECONDS:.0f} s")
    return _count(plan, stages, standby, writer, failed_at)


def _count(plan: Plan, stages: Stages, standby: ScratchServer, writer: Writer, failed_at: float) -> Loss:
    with standby.connect(DATABASE) as connection:
        with stages.stage("lost_writes") as detail:
            loss = heartbeat.compare(writer.acknowledged, writer.in_doubt, heartbeat.held(connection), failed_at)
            detail |= vars(loss) | {"lost": len(loss.lost), "first_lost": loss.lost[:10]}
            if loss.lost and plan.synchronous != "off":
                raise MaintenanceFailed(f"{len(loss.lost)} writes were lost although the standby was synchronous")
            if loss.unavailable_seconds is None:
                raise MaintenanceFailed("the time without service cannot be told: nothing was written after it")
        with stages.stage("negative_control"):
            if not heartbeat.negative_control(connection, writer.acknowledged, writer.in_doubt, failed_at):
                raise MaintenanceFailed("a write that was removed on purpose was not found missing")
    return loss


def _bring_back(stages: Stages, old: ScratchServer, primary: ScratchServer) -> None:
    with stages.stage("rewind_old_primary") as detail:
        stray = f"INSERT INTO public.{heartbeat.TABLE} VALUES ({_STRAY}, now())"  # noqa: S608 - constants
        replication.write_alone(old, DATABASE, stray)
        detail["rewound"] = replication.rewind(old, primary)
        if not detail["rewound"]:
            raise MaintenanceFailed("the old primary had written on its own, but pg_rewind found nothing to rewind")
    with stages.stage("rejoin_old_primary") as detail:
        replication.follow(old, primary)
        detail["bytes_behind_at_first"] = replication.wait_until_streaming(primary, old)
        _same_rows(old, primary)


def _same_rows(old: ScratchServer, primary: ScratchServer) -> None:
    """Prove that the old primary follows: a new row arrives, and it holds the very rows that the new primary has."""
    with primary.connect(DATABASE) as connection:
        connection.execute(f"INSERT INTO public.{heartbeat.TABLE} VALUES (0, now())")  # noqa: S608 - a constant
        expected = heartbeat.held(connection)
    arrived = f"SELECT 1 FROM public.{heartbeat.TABLE} WHERE number = 0"  # noqa: S608
    replication.wait_until(old, arrived.encode(), "a row written on the new primary", database=DATABASE)
    with old.connect(DATABASE) as connection:
        found = heartbeat.held(connection)
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if found != expected or row != (True,):
        raise MaintenanceFailed("the old primary streams, but does not hold the rows that the new primary has")


def _finish(plan: Plan, stages: Stages, loss: Loss) -> dict[str, Any]:
    targets = settings().failover
    assert loss.unavailable_seconds is not None
    stages.rpo_seconds, stages.rto_seconds = round(loss.lost_seconds, 3), round(loss.unavailable_seconds, 3)
    stages.facts = {"synchronous": plan.synchronous, "failure": plan.failure, "lost_writes": len(loss.lost)}
    with stages.stage("targets") as detail:
        detail |= {"rpo_seconds": stages.rpo_seconds, "rto_seconds": stages.rto_seconds}
        missed = []
        if loss.unavailable_seconds > targets.unavailable_seconds:
            missed.append(f"writing was impossible for {loss.unavailable_seconds:.1f} s")
        if loss.lost_seconds > targets.lost_seconds:
            missed.append(f"{loss.lost_seconds:.1f} s of writes were lost")
        if missed:
            raise MaintenanceFailed(
                f"targets were missed: {' and '.join(missed)}; acceptable are {targets.unavailable_seconds:g} s and "
                f"{targets.lost_seconds:g} s"
            )
    done = stages.finish(DrillOutcome.PASSED, _remark(stages), accepted_unknown=list(stages.unknown))
    return done.summary() | {"lost_writes": len(loss.lost)}


def _remark(stages: Stages) -> str:
    """What could not be checked of the backup: that is the backup verification's matter, and is said here."""
    return "; ".join(f"{name} of the backup was not checked: {reason}" for name, reason in stages.unknown.items())


def _connect_as_client(
    primary: ScratchServer, standby: ScratchServer, synchronous: Synchronous
) -> psycopg.Connection[Any]:
    """Connect as an application that knows both servers and writes to whichever takes writes."""
    import psycopg

    commit = "remote_apply" if synchronous == "remote_apply" else "on"
    return psycopg.connect(
        host=f"{primary.sockets},{standby.sockets}", port="5432,5432", user=primary.superuser, dbname=DATABASE,
        target_session_attrs="read-write", connect_timeout=5, autocommit=True,
        options=f"-c synchronous_commit={commit} -c statement_timeout=10s",
    )  # fmt: skip
