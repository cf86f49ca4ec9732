#!/bin/bash
# Everything that must be done before the services start. It may be run again: what is there stays, but pools get the
# sizes of config/pools.json back.
set -euo pipefail

say() { echo "init: $*"; }

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
