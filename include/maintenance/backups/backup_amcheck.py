"""Reads every table and index of a restored database with amcheck: damage within pages, rows that an index lacks."""

from __future__ import annotations

from collections.abc import Sequence

from include.maintenance.backups.backup_checks import Result, failed, passed, some, unknown
from include.platform.backup_restore import Restored, first_problem
from include.platform.database import quoted
from include.platform.scratch_server import ScratchServer
from include.warehouse.statements import statements

_STATEMENTS = statements(__file__)
_UNIQUE_SINCE = 17
_DATABASE_VERSION_SINCE = 15
"""From these major versions on pg_amcheck has --checkunique, and a database the version of its collation."""


def check(restored: Restored, jobs: int) -> Result:
    """Run pg_amcheck with heapallindexed on all tables and B-tree indexes of every restored database.

    The indexes of a whole cluster came as files, and so their levels are compared with each other and the keys of the
    unique ones too (PostgreSQL 17 on). A dump's were built a moment ago. The locks that this takes make writers wait.
    """
    import psycopg

    server, databases = restored.server, restored.databases or [restored.database]
    try:
        for database in databases:
            with server.connect(database) as connection:
                connection.execute("SET session_replication_role = replica")  # its event triggers must not fire
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
        return unknown(f"PostgreSQL {server.major} has no extension amcheck here; install its contrib package")
    sorted_otherwise = _sorted_otherwise(server, restored.databases)
    if not (server.binaries / "pg_amcheck").exists():
        return _by_function(restored, databases, sorted_otherwise)
    if restored.databases:
        more = ["--parent-check", *(["--checkunique"] if server.major >= _UNIQUE_SINCE else [])]
    else:
        more = ["--exclude-schema=pg_catalog", "--exclude-schema=information_schema"]
    # Each name is a pattern; quoted it stands for itself.
    named = [f"--database={quoted(name)}" for name in databases]
    done = server.run("pg_amcheck", "--heapallindexed", f"--jobs={jobs}", *more, *named)
    found = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()
    if done.returncode == 2:  # its status for corruption
        return _damaged(f"pg_amcheck: {found[0][:200]}", found, sorted_otherwise)
    if done.returncode != 0:
        return unknown(f"pg_amcheck could not run: {first_problem(done.stderr)}")
    return passed(databases=databases, **_remark(sorted_otherwise))


def _sorted_otherwise(server: ScratchServer, databases: Sequence[str]) -> list[str]:
    """Name the collations by which indexes of a cluster were sorted in another version than this machine's."""
    names = ["collations", *(["database_collation"] if server.major >= _DATABASE_VERSION_SINCE else [])]
    found: set[str] = set()
    for database in databases:
        with server.connect(database) as connection:
            for name in names:
                for collation, recorded, here in connection.execute(_STATEMENTS[name]):
                    found.add(f"{collation} ({recorded}, here {here or 'none'})")
    return sorted(found)


def _damaged(reason: str, lines: Sequence[str], sorted_otherwise: Sequence[str]) -> Result:
    """What amcheck found; of indexes alone it tells nothing where this machine sorts otherwise than production."""
    if sorted_otherwise and not any(line.startswith("heap table") for line in lines):
        return unknown(f"{reason}; but {_remark(sorted_otherwise)['remark']}", lines=lines[:20])
    return failed(reason, lines=lines[:20])


def _remark(sorted_otherwise: Sequence[str]) -> dict[str, str]:
    if not sorted_otherwise:
        return {}
    return {
        "remark": f"indexes were sorted by another version of {some(sorted_otherwise)} and may be wrong on this "
        "machine only; verify where the C library and ICU are production's, and reindex after a recovery elsewhere"
    }


def _by_function(restored: Restored, databases: Sequence[str], sorted_otherwise: Sequence[str]) -> Result:
    """What pg_amcheck does, for PostgreSQL 13, which does not have it yet: B-tree indexes only."""
    import psycopg

    number, function = 0, "bt_index_parent_check" if restored.databases else "bt_index_check"
    for database in databases:
        with restored.server.connect(database) as connection:
            for oid, name in connection.execute(_STATEMENTS["btree_indexes"]).fetchall():
                try:
                    connection.execute(f"SELECT {function}(%s::oid::regclass, true)".encode(), (oid,))
                except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
                    return _damaged(f"amcheck of {name}: {error.diag.message_primary}", [], sorted_otherwise)
                number += 1
    remark = _remark(sorted_otherwise)
    return passed(databases=list(databases), indexes=number, note="PostgreSQL 13 checks indexes only", **remark)
