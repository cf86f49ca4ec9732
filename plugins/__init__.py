"""Airflow plugins of the collection; Airflow itself loads the files that .airflowignore leaves over."""
