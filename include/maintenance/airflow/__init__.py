"""Airflow looks after itself. What begins the line is where a task of a DAG enters; the others serve it.

Daily
    airflow_upkeep: airflow_database, airflow_removed_rows, airflow_logs, airflow_dags, airflow_lost_failures,
        airflow_connections; leftovers
"""
