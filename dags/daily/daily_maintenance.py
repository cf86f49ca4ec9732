"""# Daily maintenance

**Purpose**: the guide's daily tasks: vacuum and analyze the tables that need it, archive and prune old audit logs,
rotate logs, look after the cache. Every act is planned, applied and proven by measurements before and after.
**Schedule**: every night (`schedules.daily_maintenance`).
**Reads**: statistics of the platform's database, its logs, its Redis.
**Writes**: `ops.maintenance_action` with plan and proof, `ops.archive`; Parquet files in the connection `archive`.
Deletes rows only after their archive was read back and found equal, and log files only once their days are in the
warehouse.
**Parameters**: `dry_run` stops every act after its plan.
**On failure**: incident P2; the failed action's row says why and what was left untouched. Clear the task to try again.
**Safe to re-run**: yes; a repeated task continues its own actions.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include.dagkit import PLATFORM_DB_POOL, Chapter, Tier, every, operations_dag
from include.settings import settings

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.IMPORTANT,
    schedule=every("daily_maintenance"),
    params={
        "dry_run": Param(False, type="boolean", description="Plan every act and record the plan, but change nothing.")
    },
    task_timeout=timedelta(hours=1),
    run_deadline=timedelta(hours=4),
):

    @task
    def migrate_warehouse() -> list[str]:
        """Bring the warehouse to the newest schema; does nothing when it is there already."""
        from include.warehouse import migrate

        return migrate.upgrade()

    @task(pool=PLATFORM_DB_POOL)
    def find_tables(**context: Any) -> list[dict[str, Any]]:
        """Find the tables that need VACUUM or ANALYZE."""
        from include.maintenance import tables

        return tables.plan_tables(context["run_id"], context["params"]["dry_run"])

    @task(pool=PLATFORM_DB_POOL, max_active_tis_per_dagrun=2, map_index_template="{{ table_name }}")
    def maintain_table(table: dict[str, Any], **context: Any) -> dict[str, Any]:
        """VACUUM or ANALYZE one table and prove it."""
        from include.maintenance import tables

        get_current_context()["table_name"] = table["table"]  # type: ignore[typeddict-unknown-key]
        return tables.maintain(table, context["run_id"], context["params"]["dry_run"])

    @task(pool=PLATFORM_DB_POOL, max_active_tis_per_dagrun=1, map_index_template="{{ table_name }}")
    def prune_table(table: str, **context: Any) -> dict[str, Any]:
        """Archive and delete the rows of one table that are older than its retention."""
        from include.maintenance import prune

        get_current_context()["table_name"] = table  # type: ignore[typeddict-unknown-key]
        rule = next(rule for rule in settings().maintenance.prune if rule.table == table)
        return prune.prune(rule, context["run_id"], context["params"]["dry_run"])

    @task
    def rotate_logs(**context: Any) -> list[dict[str, Any]]:
        """Rotate, compress and, past their retention, delete the platform's logs."""
        from include.maintenance import log_rotation

        return log_rotation.rotate(context["run_id"], context["params"]["dry_run"])

    @task
    def look_after_cache(**context: Any) -> dict[str, Any]:
        """Sweep expired keys and record the cache's statistics."""
        from include.maintenance import cache

        return cache.statistics(context["run_id"], context["params"]["dry_run"])

    pruned = prune_table.expand(table=[rule.table for rule in settings().maintenance.prune])
    migrate_warehouse() >> [pruned, rotate_logs(), look_after_cache()]
    pruned >> (found := find_tables())
    maintain_table.expand(table=found)
