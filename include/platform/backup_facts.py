"""What is recorded of a database when a backup of it is taken: schema, row counts, newest rows, checksums of the files.

The facts stand beside the backup in ``<backup>.facts.json``. The same functions read the restored database, so that
the two can be compared exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform.folders import file_sha256
from include.settings import settings
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

SUFFIX = ".facts.json"
_STATEMENTS = statements(__file__)
_VERSION = 3
_READABLE = (1, 2, 3)  # of version 1 the statistics and the added kinds are missing, of both what changed meanwhile
ADDED_KINDS = (
    "cast", "collation", "database setting", "default privileges", "foreign server", "operator", "operator class",
    "publication",
)  # fmt: skip
"""Kinds of schema objects that facts of earlier releases do not hold."""
LARGE_OBJECTS = "pg_catalog.pg_largeobject_metadata"
"""Stands among the tables where there are large objects, of which it has one row each."""


@dataclass(frozen=True)
class TableFacts:
    """Rows of one table and the newest time in it that is not after the snapshot (ISO 8601, UTC; None without one)."""

    rows: int
    newest: str | None = None


@dataclass(frozen=True)
class Counters:
    """Rows ever inserted into and deleted from one table, by the server's statistics.

    ``storage`` is another one after the table was truncated or rewritten.
    """

    inserted: int
    deleted: int
    storage: int | None


@dataclass(frozen=True)
class Statistics:
    """The counters of all tables at one moment; ``reset`` (ISO 8601) is when they last began anew."""

    reset: str | None
    tables: dict[str, Counters]


class Bounds(NamedTuple):
    """Fewest and most rows of a table that its backup can have; unless ``certain`` it may have others as well."""

    low: int
    high: int
    certain: bool


@dataclass(frozen=True)
class FileFacts:
    """Size and SHA-256 of one file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Facts:
    """Everything that is recorded of a backup.

    ``tables`` are those of the very snapshot that a dump holds. A base backup ends at a moment of its own:
    ``tables_before`` are then from before it began and ``tables`` from after it ended, and ``statistics_before`` and
    ``statistics`` tell what was inserted and deleted between, where the server counts that. ``files`` are named
    relative to the backup (a single file by its own name). Times are aware datetimes in UTC.
    """

    backup: str
    format: str
    server_version: int
    snapshot_at: datetime
    finished_at: datetime
    database: dict[str, Any]
    roles: list[str]
    tables: dict[str, TableFacts]
    catalog: list[tuple[str, str, str]]
    files: dict[str, FileFacts] = field(default_factory=dict)
    tables_before: dict[str, TableFacts] | None = None
    statistics_before: Statistics | None = None
    statistics: Statistics | None = None
    kinds: list[str] = field(default_factory=list)
    """Which of the ``ADDED_KINDS`` the catalog holds."""
    changed_meanwhile: list[tuple[str, str]] = field(default_factory=list)
    """Kind and name of the schema objects that were made, changed or dropped while a base backup was taken."""
    there_throughout: list[tuple[str, str]] = field(default_factory=list)
    """Those of them that were there before and after."""

    @property
    def kinds_not_recorded(self) -> set[str]:
        """Kinds of schema objects that were not looked for when the backup was taken."""
        return set(ADDED_KINDS) - set(self.kinds)

    @property
    def major(self) -> int:
        """Major version of the server that was backed up."""
        return self.server_version // 10000

    @property
    def superusers(self) -> list[str]:
        """The server's superusers, first the role that it was made with: of earlier releases' facts that one alone."""
        named = self.database.get("superusers", [])
        return [role for role in self.roles if role == self.roles[0] or role in named]

    @property
    def exact(self) -> bool:
        """Whether the row counts are those of the backup itself and not of moments around it."""
        return self.tables_before is None

    def bounds(self, table: str) -> Bounds:
        """Return how many rows the backup can have of a recorded table.

        A table that was changed while the backup was taken may have had fewer and more rows than before and after it:
        the counters tell how many. Where they do not, only a table that was the same before and after is certain. One
        that was made meanwhile began with none.
        """
        after = self.tables[table]
        if self.tables_before is None:
            return Bounds(after.rows, after.rows, certain=True)
        before = self.tables_before.get(table, TableFacts(0))
        changes = self._changes(table)
        if changes is not None:
            inserted, deleted = changes
            if before.rows - deleted <= after.rows <= before.rows + inserted:
                return Bounds(max(before.rows - deleted, 0), before.rows + inserted, certain=True)
        counted = self.statistics_before is not None and self.statistics is not None
        low, high = sorted((before.rows, after.rows))
        return Bounds(low, high, certain=before == after and not counted and not self.made_meanwhile(table))

    def made_meanwhile(self, table: str) -> bool:
        """Whether a recorded table was made while the backup was taken, so that the backup need not have it."""
        return self.tables_before is not None and table not in self.tables_before

    @property
    def statistics_late(self) -> bool:
        """Whether the counters do not tell yet of changes that the rows show: sessions report them with a delay."""
        return any(self._changes(table) is not None and not self.bounds(table).certain for table in self.tables)

    def _changes(self, table: str) -> tuple[int, int] | None:
        """Rows inserted and deleted while the backup was taken; None where the counters cannot tell."""
        earlier, later = self.statistics_before, self.statistics
        if earlier is None or later is None or earlier.reset != later.reset:
            return None
        one, other = earlier.tables.get(table), later.tables.get(table)
        if other is not None and self.made_meanwhile(table):
            return other.inserted, other.deleted
        if one is None or other is None or one.storage != other.storage:
            return None
        inserted, deleted = other.inserted - one.inserted, other.deleted - one.deleted
        return (inserted, deleted) if inserted >= 0 and deleted >= 0 else None  # a crash begins them anew


@dataclass(frozen=True)
class SnapshotFacts:
    """The facts of one database as one transaction sees them."""

    snapshot_at: datetime
    server_version: int
    database: dict[str, Any]
    roles: list[str]
    catalog: list[tuple[str, str, str]]


# ------------------------------------------------------------------------------------------------ the database
def read_snapshot(connection: psycopg.Connection[Any]) -> SnapshotFacts:
    """Read all but the tables' rows, in the transaction of the connection. Raises psycopg.Error."""
    row = connection.execute(_STATEMENTS["database"]).fetchone()
    assert row is not None
    database: dict[str, Any] = row[0]
    roles = [name for (name,) in connection.execute(_STATEMENTS["roles"])]
    at = datetime.fromisoformat(database.pop("snapshot_at"))
    return SnapshotFacts(at, connection.info.server_version, database, roles, read_catalog(connection))


def read_catalog(connection: psycopg.Connection[Any]) -> list[tuple[str, str, str]]:
    """Return every schema object as kind, name and definition, sorted; readable without rights on the objects."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = pg_catalog")  # so that every name is written with its schema
        rows = connection.execute(_STATEMENTS["catalog"]).fetchall()
    return sorted(row for row in rows if row[2] is not None)  # what is dropped right now has no definition any more


@dataclass(frozen=True)
class CountedTable:
    """A table to count; ``time_columns`` tell how new its rows are."""

    name: str
    schema: str
    relation: str
    unlogged: bool
    time_columns: tuple[str, ...]


def tables_of(connection: psycopg.Connection[Any], *, strict: bool = True) -> list[CountedTable]:
    """Return the tables whose rows a backup holds, the largest first. Partitions stand for their parent.

    For a column of ``backups.newest_row_columns`` that is not there (any more), all columns of times are taken, or
    ConfigurationError is raised when it is ``strict``.
    """
    chosen = settings().backups.newest_row_columns
    found = []
    for name, schema, relation, unlogged, columns in connection.execute(_STATEMENTS["tables"]).fetchall():
        column = chosen.get(name)
        if strict and column and column not in columns:
            raise ConfigurationError(
                f"backups.newest_row_columns names {column} for {name}, which has no such column of times"
            )
        times = [column] if column and column in columns else columns
        found.append(CountedTable(name, schema, relation, unlogged, tuple(times)))
    return found


def lock(connection: psycopg.Connection[Any], tables: Sequence[CountedTable]) -> None:
    """Keep tables from being dropped or changed until the transaction ends; rows may come and go as ever.

    Raises psycopg.errors.UndefinedTable when one is gone already.
    """
    from psycopg import sql

    if tables:
        names = sql.SQL(", ").join(
            sql.SQL("ONLY {}").format(sql.Identifier(one.schema, one.relation)) for one in tables
        )
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def count(
    connection: psycopg.Connection[Any], tables: Sequence[CountedTable], snapshot_at: datetime
) -> dict[str, TableFacts]:
    """Count the rows of tables exactly and find the newest time in each that is not after ``snapshot_at``.

    One pass over each table. Times without a zone are taken as UTC. Raises psycopg.Error.
    """
    found = {}
    for table in tables:
        row = connection.execute(_count_query(table), {"at": snapshot_at}).fetchone()
        assert row is not None
        found[table.name] = TableFacts(*row)
    return found


def read_statistics(connection: psycopg.Connection[Any]) -> Statistics | None:
    """Read the counters of all tables, in a transaction of their own; None when the server does not count.

    Read them before the snapshot whose rows are counted: what was changed in between is then counted twice and not left
    out. Raises psycopg.Error.
    """
    row = connection.execute(_STATEMENTS["statistics_reset"]).fetchone()
    assert row is not None
    counted, reset = row
    rows = connection.execute(_STATEMENTS["statistics"]).fetchall()
    connection.rollback()  # the next reading in the same transaction would give the same figures
    return Statistics(reset, {name: Counters(*counters) for name, *counters in rows}) if counted else None


def _count_query(table: CountedTable) -> sql.Composed:
    from psycopg import sql

    newest = [
        sql.SQL("max({0}::timestamptz) FILTER (WHERE {0} > '-infinity' AND {0}::timestamptz <= %(at)s)").format(
            sql.Identifier(column)
        )
        for column in table.time_columns
    ]
    latest = sql.SQL("greatest({})").format(sql.SQL(", ").join(newest)) if newest else sql.SQL("NULL::timestamptz")
    return sql.SQL(
        "SELECT count(*), to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM ONLY {}"
    ).format(latest, sql.Identifier(table.schema, table.relation))


# -------------------------------------------------------------------------------------------------- the files
def hash_files(backup: Path, names: Sequence[str] | None = None) -> dict[str, FileFacts]:
    """Return size and SHA-256 of a backup's files (of those named, or of all), in the order of their names.

    Raises FileNotFoundError for a named file that is not there.
    """
    if backup.is_file():
        return {backup.name: _facts_of(backup)}
    if names is None:
        names = [path.relative_to(backup).as_posix() for path in backup.rglob("*") if path.is_file()]
    return {name: _facts_of(backup / name) for name in sorted(names)}


def _facts_of(path: Path) -> FileFacts:
    return FileFacts(path.stat().st_size, file_sha256(path))


def file_differences(backup: Path, recorded: Mapping[str, FileFacts]) -> list[str]:
    """Compare a backup's files with what was recorded of them; return one phrase for each difference."""
    named = {backup.name: backup} if backup.is_file() else {name: backup / name for name in recorded}
    found = []
    for name, wanted in recorded.items():
        path = named.get(name)
        if path is None or not path.is_file():
            found.append(f"{name} is missing")
            continue
        size = path.stat().st_size
        if size != wanted.bytes:
            found.append(f"{name} has {size} bytes instead of {wanted.bytes}")
        elif file_sha256(path) != wanted.sha256:
            found.append(f"the content of {name} has changed since it was written")
    return found


# ------------------------------------------------------------------------------------------------ their record
def to_json(facts: Facts) -> str:
    """Return the facts as JSON, sealed with a checksum of their own."""
    content = asdict(facts) | {
        "version": _VERSION,
        "snapshot_at": facts.snapshot_at.astimezone(UTC).isoformat(),
        "finished_at": facts.finished_at.astimezone(UTC).isoformat(),
    }
    return json.dumps(content | {"checksum": _seal(content)}, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str, name: str) -> Facts:
    """Read facts. Raises MaintenanceFailed for damaged ones, ConfigurationError for those of another release."""
    damaged = MaintenanceFailed(f"the recorded facts {name} are damaged: their own checksum does not hold")
    try:
        content = json.loads(text)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise damaged from None
    if checksum != _seal(content):
        raise damaged
    if content.pop("version") not in _READABLE:
        raise ConfigurationError(f"the recorded facts {name} were written by another release; take a new backup")
    before = content.pop("tables_before")
    return Facts(
        **content
        | {
            "snapshot_at": datetime.fromisoformat(content["snapshot_at"]),
            "finished_at": datetime.fromisoformat(content["finished_at"]),
            "tables": {table: TableFacts(**values) for table, values in content["tables"].items()},
            "catalog": [tuple(row) for row in content["catalog"]],
            "changed_meanwhile": [tuple(row) for row in content.get("changed_meanwhile", ())],
            "there_throughout": [tuple(row) for row in content.get("there_throughout", ())],
            "files": {file: FileFacts(**values) for file, values in content["files"].items()},
            "tables_before": before and {table: TableFacts(**values) for table, values in before.items()},
            "statistics_before": _statistics(content.get("statistics_before")),
            "statistics": _statistics(content.get("statistics")),
        }
    )


def _statistics(content: dict[str, Any] | None) -> Statistics | None:
    if content is None:
        return None
    return Statistics(content["reset"], {table: Counters(**values) for table, values in content["tables"].items()})


def _seal(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
