#!/bin/bash
# Everything that must be done before the services start. It may be run again: what is there stays, but pools get the
# sizes of config/pools.json back.
set -euo pipefail

say() { echo "init: $*"; }

user() { # name password role
    say "user $1 with the role $3"
    airflow users create --username "$1" --password "$2" --role "$3" \
        --firstname "$1" --lastname "$3" --email "$1@operations.invalid"
}

say "Airflow's metadata database"
airflow db migrate
say "the warehouse"
python -m include.warehouse migrate
say "pools"
airflow pools import config/pools.json
user admin "${AIRFLOW_ADMIN_PASSWORD:?set AIRFLOW_ADMIN_PASSWORD}" Admin
user operator "${AIRFLOW_OPERATOR_PASSWORD:?set AIRFLOW_OPERATOR_PASSWORD}" Op
user viewer "${AIRFLOW_VIEWER_PASSWORD:?set AIRFLOW_VIEWER_PASSWORD}" Viewer
user maintenance "${AIRFLOW_MAINTENANCE_PASSWORD:?set AIRFLOW_MAINTENANCE_PASSWORD}" Viewer
say "the operations board for the role Viewer"
airflow roles add-perms Viewer --action can_read --resource Plugins
say "done"
