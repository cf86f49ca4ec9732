"""The platform's Redis. What begins the line is where a task of a DAG enters; the others serve it.

Daily
    cache: cache_keys, cache_server, cache_findings
"""
