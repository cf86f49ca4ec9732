#!/bin/bash
# Run by the Postgres image at its very first start: the roles and databases of Airflow and of the warehouse.
# Roles that exist already are left as they are, so it may also be run by hand against a cluster of your own.
set -euo pipefail

export PGUSER="${POSTGRES_USER:-postgres}"

create() { # database owner role:variable...
    local database=$1 owner=$2 role variable
    shift 2
    for pair in "$@"; do
        role=${pair%%:*} variable=${pair##*:}
        : "${!variable:?set $variable}"
        # Read from the environment: every user of the machine can see a command line.
        psql -v ON_ERROR_STOP=1 -q -d postgres -v role="$role" -v variable="$variable" <<'SQL'
\getenv password :variable
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'role', :'password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SQL
    done
    psql -v ON_ERROR_STOP=1 -q -d postgres -v database="$database" -v owner="$owner" <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
    for pair in "$@"; do
        psql -v ON_ERROR_STOP=1 -q -d postgres -v database="$database" -v role="${pair%%:*}" \
            <<<'GRANT CONNECT ON DATABASE :"database" TO :"role";'
    done
}

create airflow airflow airflow:AIRFLOW_DATABASE_PASSWORD
create warehouse warehouse_owner \
    warehouse_owner:WAREHOUSE_OWNER_PASSWORD \
    warehouse_writer:WAREHOUSE_WRITER_PASSWORD \
    warehouse_reader:WAREHOUSE_READER_PASSWORD
