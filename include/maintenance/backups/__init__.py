"""Backups and disaster recovery. What begins each line is where a task of a DAG enters; the others serve it.

Weekly
    backup_verification: backup_sources, archived_wal, cluster_recovery, backup_checks, backup_catalog,
        backup_constraints, backup_amcheck, backup_control, drill_stages
Monthly
    archive_samples
    full_restoration: estate
    failover_drill: heartbeat
"""
