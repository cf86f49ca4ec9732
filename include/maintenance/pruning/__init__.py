"""Rows past their retention. What begins each line is where a task of a DAG enters; the others serve it.

Daily
    prune: moving, work, rows, row_statements, sources, pace, settling, partitions; columns, archive_files,
        archive_lines, manifests; holds, backlog
Bringing rows back, for operators and for the drills of backups
    restore
    archive_restoration
"""
