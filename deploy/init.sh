#!/bin/bash
# Everything that must be done before the services start. It may be run again: what is there stays, but pools get the
# sizes of config/pools.json back.
set -euo pipefail

say() { echo "init: $*"; }

# The slots of all pools and two more: a watch waits for no other task, nor does the callback of a missed deadline.
needed=$(python -c 'import json; print(2 + sum(pool["slots"] for pool in json.load(open("config/pools.json")).values()))')
if [ "${AIRFLOW__CORE__PARALLELISM:-32}" -lt "$needed" ]; then
    say "Airflow may run $AIRFLOW__CORE__PARALLELISM tasks at once; set WORKER_CONCURRENCY or AIRFLOW_PARALLELISM to $needed"
    exit 1
fi
say "Airflow's metadata database"
airflow db migrate
say "the warehouse"
python -m include.warehouse migrate
say "pools"
airflow pools import config/pools.json
python deploy/create_users.py
say "the operations board and the audit log for the role Viewer"
airflow roles add-perms Viewer --action can_read --resource Plugins "Audit Logs"
say "done"
