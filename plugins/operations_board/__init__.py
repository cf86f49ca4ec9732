"""The operations board: pages in the Airflow UI about reports, incidents and maintenance, read from the warehouse."""
