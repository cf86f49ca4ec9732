"""Reads every table and index of a restored database with amcheck: damage within pages, rows that an index lacks."""

from __future__ import annotations

from collections.abc import Sequence

from include.maintenance.backups.backup_checks import Result, failed, passed, unknown
from include.platform.backup_restore import Restored, first_problem
from include.warehouse.statements import statements

_STATEMENTS = statements(__file__)


def check(restored: Restored, jobs: int) -> Result:
    """Run pg_amcheck with heapallindexed on all tables and B-tree indexes of every restored database."""
    import psycopg

    server, databases = restored.server, restored.databases or [restored.database]
    try:
        for database in databases:
            with server.connect(database) as connection:
                connection.execute("SET session_replication_role = replica")  # its event triggers must not fire
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
        return unknown(f"PostgreSQL {server.major} has no extension amcheck here; install its contrib package")
    if not (server.binaries / "pg_amcheck").exists():
        return _by_function(restored, databases)
    # A dump's catalogs were made a moment ago; those of a cluster came with the backup.
    catalogs = [] if restored.databases else ["--exclude-schema=pg_catalog", "--exclude-schema=information_schema"]
    # Each name is a pattern; quoted it stands for itself.
    named = ['--database="' + name.replace('"', '""') + '"' for name in databases]
    done = server.run("pg_amcheck", "--heapallindexed", f"--jobs={jobs}", *catalogs, *named)
    found = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()
    if done.returncode == 2:  # its status for corruption
        return failed(f"pg_amcheck: {found[0][:200]}", lines=found[:20])
    if done.returncode != 0:
        return unknown(f"pg_amcheck could not run: {first_problem(done.stderr)}")
    return passed(databases=databases)


def _by_function(restored: Restored, databases: Sequence[str]) -> Result:
    """What pg_amcheck does, for PostgreSQL 13, which does not have it yet: B-tree indexes only."""
    import psycopg

    number = 0
    for database in databases:
        with restored.server.connect(database) as connection:
            for oid, name in connection.execute(_STATEMENTS["btree_indexes"]).fetchall():
                try:
                    connection.execute("SELECT bt_index_check(%s::oid::regclass, true)", (oid,))
                except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
                    return failed(f"amcheck of {name}: {error.diag.message_primary}")
                number += 1
    return passed(databases=list(databases), indexes=number, note="PostgreSQL 13 checks indexes only")
