"""Whether the restored rows keep every foreign key and every CHECK of the database.

A dump's rows are checked by restoring it. A copy of a whole cluster brings along the mark that a constraint was
validated once, and nobody looks at its rows again: here they are read.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from include.maintenance.backups.backup_checks import Result, failed, passed, some
from include.platform.backup_facts import Facts
from include.platform.backup_restore import Restored
from include.warehouse.statements import statements

_STATEMENTS = statements(__file__)
_Broken = list[str]


def check(restored: Restored, facts: Facts | None, jobs: int) -> Result:
    """Check that every constraint holds; one that was never validated is validated here.

    Of a whole cluster each is checked against all rows, ``jobs`` at a time. Invalid indexes are a fault; with recorded
    facts only those that were valid when the backup was taken.
    """
    validated, never = _validate(restored)
    read, broken = _read_all(restored, jobs) if restored.databases else (0, [])
    with restored.server.connect(restored.database) as connection:
        row = connection.execute(_STATEMENTS["constraint_count"]).fetchone()
        assert row is not None
        invalid = [name for (name,) in connection.execute(_STATEMENTS["invalid_indexes"])]
    if facts is not None:
        sound = {name for kind, name, definition in facts.catalog if kind == "index" and "(invalid)" not in definition}
        built = {name for kind, name in facts.changed_meanwhile if kind == "index"}  # may be half built in the backup
        invalid = [name for name in invalid if name in sound - built]
    detail = {
        "constraints": row[0], "not_validated_before": validated, "read": read, "broken": [*never, *broken],
        "invalid_indexes": invalid,
    }  # fmt: skip
    if broken:
        return failed(f"restored rows break constraints: {some(broken)}", **detail)
    if never:
        return failed(f"restored rows break constraints that were never validated: {some(never)}", **detail)
    if invalid:
        return failed(f"indexes are invalid: {some(invalid)}", **detail)
    return passed(**detail)


def _validate(restored: Restored) -> tuple[list[str], _Broken]:
    """Validate what never was; return what holds and what does not."""
    import psycopg
    from psycopg import sql

    validated, broken = [], []
    with restored.server.connect(restored.database) as connection:
        for space, table, name in connection.execute(_STATEMENTS["unvalidated"]).fetchall():
            statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
                sql.Identifier(space, table), sql.Identifier(name)
            )
            where = f"{name} of {space}.{table}"
            try:
                connection.execute(statement)
                validated.append(where)
            except (psycopg.errors.IntegrityError, psycopg.errors.CheckViolation):
                broken.append(where)
    return validated, broken


def _read_all(restored: Restored, jobs: int) -> tuple[int, _Broken]:
    """Look in all rows for those that break a foreign key or a CHECK; return how many there are, and the broken."""
    with restored.server.connect(restored.database) as connection, connection.transaction():
        connection.execute("SET LOCAL search_path = pg_catalog")  # so that every name is written with its schema
        wanted = [row for name in ("foreign_keys", "checks") for row in connection.execute(_STATEMENTS[name])]

    def part(number: int) -> _Broken:
        found = []
        with restored.server.connect(restored.database) as connection:
            connection.execute("SELECT set_config('work_mem', current_setting('maintenance_work_mem'), false)")
            for table, names, query in wanted[number::jobs]:
                row = connection.execute(query.encode()).fetchone()
                assert row is not None
                found += [f"{name} of {table} ({rows} rows)" for name, rows in zip(names, row, strict=True) if rows]
        return found

    with ThreadPoolExecutor(jobs) as pool:
        broken = sorted(one for found in pool.map(part, range(jobs)) for one in found)
    return sum(len(names) for _, names, _ in wanted), broken
