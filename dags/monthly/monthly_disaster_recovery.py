"""# Monthly disaster recovery

**Purpose**: the guide's "Disaster Recovery": restores everything (database, roles, configuration) to an empty place,
timed against the targets of recovery, and, outside that time, as many archives as `restoration.archives_minutes`
allows; and rehearses a failover: a standby built from the backup streams, the primary is killed while a heartbeat is
written, the standby is promoted, the old primary rewound and made to follow.
**Schedule**: every month (`schedules.monthly_disaster_recovery`).
**Reads**: the newest backup of each source, `ops.archive`, the files of the connections `backups` and `archive`.
**Writes**: `ops.drill` and `ops.drill_stage`, with figures, targets and the comparison with earlier drills, and each
drill's row of `ops.maintenance_action`. Works on scratch servers of its own only, which are removed whatever happens;
nothing of the platform is touched.
**Parameters**: `source`, one backup source instead of all; `most_archives`, how many archives are restored at most;
`synchronous`, what a commit waits for before the failure; `heartbeat_milliseconds` and `load_seconds`, how often and
for how long is written before it; `failure`, how the primary ends; `dry_run` plans only, and its row says what would be
restored.
**On failure**: incident P1. A failed drill means that a recovery today would fail or miss its target: the stage that
failed says what to mend, and nothing is tried again by itself. `could_not_run` is no pass: mend what the reason names
and clear the task.
**Safe to re-run**: yes; a killed drill leaves nothing behind and its row begins anew, a passed one is not repeated.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include.dagkit import SCRATCH_POOL, Chapter, Tier, every, migrate_warehouse, operations_dag

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.CRITICAL,
    schedule=every("monthly_disaster_recovery"),
    params={
        "dry_run": Param(False, type="boolean", description="Say what would be restored, but restore nothing."),
        "source": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z][a-z0-9_]*$",
            description="Rehearse with this backup source only; empty: with every one of backups.sources.",
        ),
        "most_archives": Param(
            100_000,
            type="integer",
            minimum=1,
            maximum=10_000_000,
            description="How many archive files are restored at most, the newest ones.",
        ),
        "synchronous": Param(
            "off",
            enum=["off", "on", "remote_apply"],
            description="What a commit waits for: nothing of the standby, its disk, or being visible there.",
        ),
        "heartbeat_milliseconds": Param(20, type="integer", minimum=1, maximum=1000, description="Between two writes."),
        "load_seconds": Param(10, type="integer", minimum=1, maximum=600, description="Test writes before the end."),
        "failure": Param(
            "kill",
            enum=["kill", "immediate"],
            description="SIGKILL of the primary, or an immediate shutdown.",
        ),
    },
    task_timeout=timedelta(hours=6),
    run_deadline=timedelta(hours=12),
    retry_failed_acts=False,  # a recovery that fails once has failed
):

    @task
    def choose_sources(**context: Any) -> list[str]:
        """Name the backup sources to rehearse with."""
        from include.maintenance.backups import full_restoration

        return full_restoration.sources(context["params"]["source"])

    @task(pool=SCRATCH_POOL, max_active_tis_per_dagrun=1, map_index_template="{{ source_name }}")
    def restore_everything(source: str, **context: Any) -> dict[str, Any]:
        """Restore everything of one source to an empty place and time it."""
        from include.maintenance.backups import full_restoration

        get_current_context()["source_name"] = source  # type: ignore[typeddict-unknown-key]
        params = context["params"]
        return full_restoration.rehearse(
            source, context["run_id"], context["dag_run"].run_after,
            most_archives=params["most_archives"], dry_run=params["dry_run"],
        )  # fmt: skip

    @task(pool=SCRATCH_POOL, max_active_tis_per_dagrun=1, map_index_template="{{ source_name }}")
    def rehearse_failover(source: str, **context: Any) -> dict[str, Any]:
        """Fail over from a restored primary to its standby and measure what is lost."""
        from include.maintenance.backups import failover_drill

        get_current_context()["source_name"] = source  # type: ignore[typeddict-unknown-key]
        params = context["params"]
        plan = failover_drill.Plan(
            source, params["heartbeat_milliseconds"] / 1000, params["load_seconds"], params["synchronous"],
            params["failure"],
        )  # fmt: skip
        return failover_drill.rehearse(plan, context["run_id"], dry_run=params["dry_run"])

    migrated = migrate_warehouse()
    migrated >> (chosen := choose_sources())
    restore_everything.expand(source=chosen)
    rehearse_failover.expand(source=chosen)
