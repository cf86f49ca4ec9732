"""Chapter "Routine Maintenance". What begins each line is where a task of a DAG enters; the others serve it.

Daily
    vacuum: vacuum_plan
    prune: moving, rows, row_statements, pace, settling, partitions; archive_files, manifests; holds; restore
    log_rotation: logrotate, log_compression, log_retention, log_proofs
    cache: cache_keys, cache_server, cache_findings
    airflow_upkeep: airflow_database, airflow_removed_rows, airflow_logs, airflow_dags
Weekly
    index_review
    bloat
    query_review: query_plans, query_texts
    reindex
    backup_verification: backup_sources, cluster_recovery, backup_checks, backup_amcheck, backup_control, drill_stages
Monthly
    wraparound
    partitioning: partition_remedy
    slots
    drift
    archive_samples: archive_restoration
    full_restoration: estate
    failover_drill: heartbeat

``python -m include.maintenance`` does the same without Airflow: archive_commands, backup_commands, weekly_commands.
"""
