"""# Weekly backup verification

**Purpose**: the guide's weekly "Backup Verification": the newest backup of every source is restored into a scratch
server of its own version and examined: age and WAL, checksums, schema, row counts as of its snapshot, newest rows,
sequences, constraints, amcheck, one application query, and damaged copies that must be refused.
**Schedule**: early on Sunday (`schedules.weekly_backup_verification`).
**Reads**: the connection `backups`; `backups.sources`; the platform's database only where no facts were recorded.
**Writes**: `ops.drill`, `ops.drill_stage` and the drill's row of `ops.maintenance_action`, with the measured loss (RPO)
and recovery time (RTO); nothing else.
**Parameters**: `source` verifies one source only, `jobs` bounds the parallel work; `dry_run` only plans: it names them.
**On failure**: incident P2; the drill's row names the stage that failed. A backup that could not be verified is a
failure too; one that has failed is not tried again by itself. Take a new backup or mend what the stage names, then
clear the task.
**Safe to re-run**: yes; what a killed drill left is removed, a drill that passed is not repeated.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include.dagkit import SCRATCH_POOL, Chapter, Tier, every, migrate_warehouse, operations_dag
from include.settings import settings

SOURCES = [source.name for source in settings().backups.sources]

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.IMPORTANT,
    schedule=every("weekly_backup_verification"),
    params={
        "dry_run": Param(False, type="boolean", description="Name the backups, but restore nothing."),
        "source": Param(None, enum=[None, *SOURCES], description="Verify this source only; empty: all of them."),
        "jobs": Param(
            settings().backups.jobs, type="integer", minimum=1, maximum=32, description="Parallel jobs of each drill."
        ),
    },
    task_timeout=timedelta(hours=6),
    run_deadline=timedelta(hours=12),
    retries=1,
    retry_failed_acts=False,  # a backup that fails once has failed
):

    @task
    def choose_sources(**context: Any) -> list[str]:
        """List the backup sources to verify."""
        from include.maintenance.backups import backup_verification

        return backup_verification.sources(context["params"]["source"])

    @task(pool=SCRATCH_POOL, max_active_tis_per_dagrun=1, map_index_template="{{ source_name }}")
    def verify_backup(source: str, **context: Any) -> dict[str, Any]:
        """Restore the newest backup of one source and examine it."""
        from include.maintenance.backups import backup_verification

        get_current_context()["source_name"] = source  # type: ignore[typeddict-unknown-key]
        params = context["params"]
        return backup_verification.verify(source, context["run_id"], jobs=params["jobs"], dry_run=params["dry_run"])

    migrate_warehouse() >> (chosen := choose_sources())
    verify_backup.expand(source=chosen)
