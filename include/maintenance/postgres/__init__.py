"""The platform's database. What begins each line is where a task of a DAG enters; the others serve it.

Daily
    vacuum_plan
    vacuum: vacuum_statement, vacuum_findings
Weekly and monthly
    drift
Weekly
    index_review
    bloat
    query_review: query_plans, query_trust, query_texts
    reindex
Monthly
    wraparound
    key_exhaustion: key_remedy
    partitioning: partition_remedy, partition_exchange, partition_names
    slots
    server_health
"""
