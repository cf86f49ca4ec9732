"""# Monthly maintenance

**Purpose**: looks months ahead: when transaction ids and keys run out, which tables to partition, whether archives can
still be restored, which replication slots and prepared transactions were forgotten, what the server has counted as
damaged, and what changed in schema, grants and settings since last month.
**Schedule**: on the first day of every month (`schedules.monthly_maintenance`).
**Reads**: catalogue and statistics of the platform's database; `ops.archive` and the files in the connection `archive`.
**Writes**: `ops.finding` with evidence and remedy; `ops.platform_snapshot` and its tables, which the next month's run
compares with; `ops.drill`, `ops.drill_stage` and `ops.maintenance_action` of the archive sample. Changes nothing of the
platform; archives are restored to a scratch server only.
**Parameters**: `archive_sample`, the number of archive files that are read again and restored; `dry_run` only names
them. All else only reads.
**On failure**: incident P2. A damaged archive fails its task: the finding names the file. So does an archive that could
not be tried, and every check that could not look: its finding is `unknown` and says why. Other findings fail nothing;
`ops.latest_finding` has them; what the role may not read is `unknown` there, with the grant that it lacks.
**Safe to re-run**: yes; a repeated task writes its findings anew, a run keeps its first snapshot and its sample.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, task

from include.dagkit import PLATFORM_DB_POOL, Chapter, Tier, every, migrate_warehouse, operations_dag
from include.settings import settings

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.IMPORTANT,
    schedule=every("monthly_maintenance"),
    params={
        "dry_run": Param(False, type="boolean", description="Check all else, but only name the archives to restore."),
        "archive_sample": Param(
            settings().maintenance.monthly.archive_sample,
            type="integer",
            minimum=1,
            maximum=1000,
            description="How many archive files are read again, restored and compared.",
        ),
    },
    task_timeout=timedelta(hours=1),
    run_deadline=timedelta(hours=4),
):

    @task(pool=PLATFORM_DB_POOL)
    def take_snapshot(**context: Any) -> dict[str, Any]:
        """Record how everything is defined, how large the tables are and how far the counters."""
        from include.maintenance.postgres import drift

        return drift.take(context["run_id"], context["dag_run"].run_after)

    @task(pool=PLATFORM_DB_POOL, trigger_rule="all_done")
    def compare_definitions(**context: Any) -> dict[str, Any]:
        """Find what was added, removed or changed since last month."""
        from include.maintenance.postgres import drift

        return drift.check(context["run_id"])

    @task(pool=PLATFORM_DB_POOL, trigger_rule="all_done")
    def forecast_wraparound(**context: Any) -> dict[str, Any]:
        """Forecast when transaction and multixact ids run out."""
        from include.maintenance.postgres import wraparound

        return wraparound.check(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def forecast_key_exhaustion(**context: Any) -> dict[str, Any]:
        """Forecast when sequences, and the integer columns that they fill, run out of numbers."""
        from include.maintenance.postgres import key_exhaustion

        return key_exhaustion.check(context["run_id"])

    @task(pool=PLATFORM_DB_POOL, trigger_rule="all_done")
    def find_tables_to_partition(**context: Any) -> dict[str, Any]:
        """Find large insert-mostly tables and write the SQL that partitions them."""
        from include.maintenance.postgres import partitioning

        return partitioning.check(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def check_replication_slots(**context: Any) -> dict[str, Any]:
        """Find replication slots that nobody reads."""
        from include.maintenance.postgres import slots

        return slots.check_slots(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def check_prepared_transactions(**context: Any) -> dict[str, Any]:
        """Find prepared transactions that nobody ended."""
        from include.maintenance.postgres import slots

        return slots.check_prepared(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def check_server_health(**context: Any) -> dict[str, Any]:
        """Find damaged pages, WAL that is not archived and constraints left NOT VALID."""
        from include.maintenance.postgres import server_health

        return server_health.check(context["run_id"])

    @task
    def restore_archive_sample(**context: Any) -> dict[str, Any]:
        """Read a sample of the archives again, restore it to a scratch server and compare."""
        from include.maintenance.backups import archive_samples

        params = context["params"]
        return archive_samples.check(
            context["run_id"], context["dag_run"].run_after, params["archive_sample"], dry_run=params["dry_run"]
        )

    migrated = migrate_warehouse()
    migrated >> [forecast_key_exhaustion(), check_replication_slots(), check_prepared_transactions()]
    migrated >> [check_server_health(), restore_archive_sample()]
    # Without a snapshot they record that they could not look, and fail.
    migrated >> take_snapshot() >> [compare_definitions(), forecast_wraparound(), find_tables_to_partition()]
