"""Rows past their retention. What begins each line is where a task of a DAG enters; the others serve it.

Daily
    prune: moving, rows, row_statements, sources, pace, settling, partitions; archive_files, manifests; holds
Monthly
    archive_samples: archive_restoration, restore
"""
