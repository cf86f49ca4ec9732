"""# Weekly maintenance

**Purpose**: the guide's weekly "Query Optimization" and "Index Review": unused, redundant, invalid and missing indexes,
bloat, slow queries and those that became slower, each with the SQL to apply; and the rebuilding of bloated indexes.
**Schedule**: early on Sunday (`schedules.weekly_maintenance`); a run that an outage or a pause held up starts at once.
**Reads**: catalogs and statistics of the platform's database and its replicas, `pg_stat_statements` (never reset).
**Writes**: `ops.finding`, `ops.index_usage`, `ops.statement_*`, `ops.platform_*`; `ops.maintenance_action` for every
rebuilt index, and for what an interrupted rebuilding left and the next run removes.
An index above `maintenance.reindex.without_approval_up_to_bytes` is rebuilt only when somebody approves it in the UI.
**Parameters**: `dry_run` plans the rebuilding but neither asks nor rebuilds; `most_indexes` bounds it; `bounds`: how
much is measured and planned, for this run only, such as `{"index_review.measure_minutes_per_run": 5}`.
**On failure**: incident P3; what could not be checked is recorded as unknown. Clear the task to try again.
**Safe to re-run**: yes; findings are replaced, a repeated rebuilding finishes or cleans up what it had begun.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from include.dagkit import PLATFORM_DB_POOL, Ask, Chapter, Tier, bounds_param, every, migrate_warehouse, operations_dag
from include.settings import settings

BOUNDS = settings().maintenance.reindex
WAIT_FOR_ANSWER = timedelta(hours=BOUNDS.approval_hours)

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MAINTENANCE,
    tier=Tier.STANDARD,
    schedule=every("weekly_maintenance"),
    params={
        "dry_run": Param(False, type="boolean", description="Review and plan, but rebuild no index."),
        "most_indexes": Param(
            BOUNDS.most_indexes, type="integer", minimum=0, maximum=50, description="Indexes to rebuild at most."
        ),
        **bounds_param("weekly_maintenance"),
    },
    task_timeout=timedelta(hours=1),
    run_deadline=WAIT_FOR_ANSWER + timedelta(hours=12),
):

    @task(pool=PLATFORM_DB_POOL)
    def take_snapshot(**context: Any) -> dict[str, Any]:
        """Record how everything is defined, how large the tables are and how far the counters, for the forecasts."""
        from include.maintenance.postgres import drift

        return drift.take(context["run_id"], context["dag_run"].run_after)

    @task(pool=PLATFORM_DB_POOL)
    def review_indexes(**context: Any) -> list[dict[str, Any]]:
        """Find unused, redundant and invalid indexes, and foreign keys without one."""
        from include.maintenance.postgres import index_review

        return index_review.review(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def review_queries(**context: Any) -> list[dict[str, Any]]:
        """Compare the week's query statistics with those of the week before; find slow queries and what helps them."""
        from include.maintenance.postgres import query_review

        return query_review.review(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def review_bloat(**context: Any) -> list[dict[str, Any]]:
        """Estimate the wasted space of indexes and tables, and measure it where that is allowed."""
        from include.maintenance.postgres import bloat

        return bloat.review(context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def choose_indexes(**context: Any) -> list[dict[str, Any]]:
        """Remove what an interrupted rebuilding left, and choose the indexes to rebuild."""
        from include.maintenance.postgres import reindex

        params = context["params"]
        if not params["dry_run"]:
            reindex.clean_up(context["run_id"])
        return reindex.candidates(context["run_id"], params["dry_run"], params["most_indexes"])

    @task
    def write_questions(chosen: list[dict[str, Any]], **context: Any) -> list[dict[str, Any]]:
        """Write the question about each large index."""
        from include.maintenance.postgres import reindex

        return [] if context["params"]["dry_run"] else reindex.questions(chosen, context["run_id"])

    @task(trigger_rule="none_failed")
    def read_answers(chosen: list[dict[str, Any]], answers: Any) -> list[dict[str, Any]]:
        """Join the chosen indexes with the answers; without questions there are none."""
        from include.maintenance.postgres import reindex

        return reindex.decisions(chosen, list(answers or []))

    @task(
        pool=PLATFORM_DB_POOL,
        max_active_tis_per_dagrun=1,
        map_index_template="{{ index_name }}",
        execution_timeout=timedelta(hours=10),
    )
    def rebuild_index(decision: dict[str, Any], **context: Any) -> dict[str, Any]:
        """Rebuild one index and prove it; record one that nobody approved with that reason."""
        from include.maintenance.postgres import reindex

        get_current_context()["index_name"] = decision["candidate"]["index"]  # type: ignore[typeddict-unknown-key]
        return reindex.rebuild(**decision, run_id=context["run_id"], dry_run=context["params"]["dry_run"])

    chosen = choose_indexes()
    approvals = Ask.partial(
        task_id="ask_for_approval",
        response_timeout=WAIT_FOR_ANSWER,
        doc_md="Waits for a person to answer each question; without an answer in time the index is left alone.",
    ).expand_kwargs(write_questions(chosen))  # type: ignore[arg-type]
    rebuild_index.expand(decision=read_answers(chosen, approvals.output))  # type: ignore[arg-type]
    migrate_warehouse() >> [take_snapshot(), review_indexes(), review_queries(), bloated := review_bloat()]
    bloated >> chosen
