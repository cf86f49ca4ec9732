"""# Daily maintenance

**Purpose**: the guide's daily tasks: vacuum and analyze the tables that need it, archive and prune old audit logs,
rotate logs, look after the cache and Airflow itself. Every act is planned, applied and proven by measurements.
**Schedule**: every night (`schedules.daily_maintenance`); a run that an outage or a pause held up starts at once.
**Reads**: statistics of the platform's database, its logs, its Redis; Airflow's own database, logs and API.
**Writes**: `ops.maintenance_action` with plan and proof, `ops.finding`, `ops.archive`; Parquet files in the connection
`archive`. Deletes the platform's rows only after their archive was read back and found equal, its logs only once their
days are in the warehouse. Deletes without an archive: Airflow's old rows (unless `airflow.removed_rows` is `export`),
Airflow's logs by age or size, old rows of `ops.finding` and `ops.platform_*`, what killed tasks left on the worker.
**Parameters**: `dry_run` stops every act after its plan. `window_minutes`: how long tables are vacuumed once pruning
has ended. What is not done by then is stopped, the next run goes on; near wraparound no table waits. `bounds`: sizes of
batches, pauses and what is kept for longer, for this run only, such as `{"prune.batch_rows": 1000}`.
**On failure**: incident P2; the failed action's row says why and what was left untouched. Clear the task, with all
that follows it, to try again.
**Safe to re-run**: yes; a repeated task continues its own actions.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include import dagkit
from include.dagkit import PLATFORM_DB_POOL, Chapter, Tier, bounds_param, every, migrate_warehouse, operations_dag
from include.settings import settings

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.IMPORTANT,
    schedule=every("daily_maintenance"),
    params={
        "dry_run": Param(False, type="boolean", description="Plan every act and record the plan, but change nothing."),
        "window_minutes": Param(
            settings().maintenance.vacuum.window_minutes,
            type="integer",
            minimum=1,
            maximum=720,
            description="How long to vacuum after pruning. More than configured may miss the run's deadline.",
        ),
        **bounds_param("daily_maintenance"),
    },
    task_timeout=timedelta(hours=1),
    run_deadline=timedelta(minutes=max(240, settings().maintenance.vacuum.window_minutes + 60)),
):

    @task(pool=PLATFORM_DB_POOL, trigger_rule="all_done")
    def find_tables(**context: Any) -> list[dict[str, Any]]:
        """Rate the tables, and list those that need VACUUM or ANALYZE, the worst first."""
        from include.maintenance.postgres import vacuum_plan

        ends_at = vacuum_plan.window_end(context["params"]["window_minutes"])
        return vacuum_plan.plan_tables(context["run_id"], context["params"]["dry_run"], ends_at)

    @task(
        pool=PLATFORM_DB_POOL,
        max_active_tis_per_dagrun=settings().maintenance.vacuum.tables_at_once,
        map_index_template="{{ table_name }}",
        execution_timeout=timedelta(hours=12),
    )
    def maintain_table(table: dict[str, Any], **context: Any) -> dict[str, Any]:
        """VACUUM or ANALYZE one table and prove it."""
        from include.maintenance.postgres import vacuum, vacuum_plan

        get_current_context()["table_name"] = table["table"]  # type: ignore[typeddict-unknown-key]
        table = vacuum_plan.in_window_of(table, context["dag_run"].start_date, context["params"]["window_minutes"])
        return vacuum.maintain(table, context["run_id"], context["params"]["dry_run"])

    @task(pool=PLATFORM_DB_POOL, trigger_rule="all_done")
    def finish_tables(**context: Any) -> dict[str, Any]:
        """Bring the database's own age up to date once, record what became of the plan, report what never gets done."""
        from include.maintenance.postgres import vacuum

        return vacuum.finish(context["run_id"], context["params"]["dry_run"])

    @task(trigger_rule="one_failed", retries=0)
    def fail_run(**context: Any) -> None:
        """Fail the run when one of the tasks before it has failed: tasks that others follow count for nothing else."""
        dagkit.raise_failures(context["ti"])

    @task(pool=PLATFORM_DB_POOL, max_active_tis_per_dagrun=1, map_index_template="{{ table_name }}")
    def prune_table(table: str, **context: Any) -> dict[str, Any]:
        """Archive and delete the rows of one table that are older than its retention."""
        from include.maintenance.pruning import prune

        get_current_context()["table_name"] = table  # type: ignore[typeddict-unknown-key]
        rule = next(rule for rule in settings().maintenance.prune if rule.table == table)
        return prune.prune(rule, context["run_id"], context["params"]["dry_run"])

    @task
    def rotate_logs(**context: Any) -> list[dict[str, Any]]:
        """Rotate, compress and, past their retention, delete the platform's logs."""
        from include.maintenance.logs import log_rotation

        return log_rotation.rotate(context["run_id"], context["params"]["dry_run"])

    @task
    def look_after_cache(**context: Any) -> dict[str, Any]:
        """Sweep expired keys, look at all others, record statistics and findings."""
        from include.maintenance.cache import cache

        return cache.statistics(context["run_id"], context["params"]["dry_run"])

    @task(map_index_template="{{ part_name }}")
    def look_after_airflow(part: str, **context: Any) -> dict[str, Any]:
        """Remove old rows and old logs of Airflow itself; look whether its DAGs run."""
        from include.dagkit import airflow_log_folder
        from include.maintenance.airflow import airflow_upkeep

        get_current_context()["part_name"] = part  # type: ignore[typeddict-unknown-key]
        return airflow_upkeep.look_after(part, context["run_id"], context["params"]["dry_run"], airflow_log_folder())

    pruned = prune_table.expand(table=[rule.table for rule in settings().maintenance.prune])
    airflow_parts = look_after_airflow.expand(part=["database", "logs", "dags", "leftovers"])
    migrate_warehouse() >> [pruned, rotate_logs(), look_after_cache(), airflow_parts]
    pruned >> (found := find_tables()) >> (maintained := maintain_table.expand(table=found))
    maintained >> (finished := finish_tables())  # no teardown: a run that somebody marks failed would end as a success
    [pruned, found, maintained, finished] >> fail_run()
