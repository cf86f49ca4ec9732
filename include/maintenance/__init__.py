"""Chapter "Routine Maintenance": a folder for each of its subjects, whose own page names its modules.

    postgres/  the platform's database: vacuum, indexes, queries, partitioning, wraparound, slots, drift
    pruning/   rows past their retention: archived, verified, deleted, restored; legal holds
    logs/      the platform's log files: rotated, compressed, deleted
    cache/     the platform's Redis
    airflow/   Airflow's own database, logs and DAGs
    backups/   backups verified, archives and everything restored, a failover rehearsed

``python -m include.maintenance`` works without Airflow. ``daily`` does the work of a day but for Airflow itself, which
is ``airflow``; ``weekly`` that of a week but for the snapshot that monthly forecasts are made from (``drift.take``).
The modules of the commands: archive_commands, backup_commands, weekly_commands. For several subjects: postponed.
"""
