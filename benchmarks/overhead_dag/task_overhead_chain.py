"""Ten tasks one after the other that do nothing: what such a run takes is orchestration alone."""

from airflow.sdk import chain, dag, task

TASKS = 10


@dag(schedule=None, catchup=False)
def task_overhead_chain() -> None:
    """Chain the tasks."""

    @task
    def nothing() -> None:
        """Do nothing."""

    chain(*[nothing.override(task_id=f"nothing_{number}")() for number in range(TASKS)])


task_overhead_chain()
