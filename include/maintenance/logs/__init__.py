"""The platform's log files. What begins the line is where a task of a DAG enters; the others serve it.

Daily
    log_rotation: logrotate, log_compression, log_retention, log_closing, log_proofs
"""
