"""Writes the daily metrics: all rows of one subject on one day, replaced in one transaction."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from include.outcome import Completeness
from include.warehouse import session

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

OUTCOMES = ("created", "completed", "disputed", "cancelled", "failed")
"""What can happen to a transaction; each has its row of a day, also when it happened to none."""

SUBJECT_TABLES: dict[str, tuple[str, ...]] = {
    "uptime": ("daily_uptime",),
    "traffic": ("daily_traffic", "hourly_traffic", "hourly_latency", "daily_error"),
    "users": ("daily_users", "daily_user_sketch"),
    "transactions": ("daily_transactions", "daily_revenue"),
    "support": ("daily_support", "daily_feedback"),
}
"""The tables of schema ops that hold each subject's rows."""

_STEP = Decimal("0.00001")  # daily_subject.completeness is numeric(6, 5)


class TableRows(NamedTuple):
    """Rows of one table: ``columns`` without ``day``, which the writer adds, and one tuple per row."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class SubjectState(NamedTuple):
    """What the warehouse knows of one subject on one day; ``content_hash`` is empty when it was never computed."""

    state: Completeness
    completeness: Decimal
    reason: str
    detail: dict[str, Any]
    content_hash: str


NEVER_COMPUTED = SubjectState(Completeness.MISSING, Decimal(0), "the metrics of this day were not computed", {}, "")
"""The state of a subject that has no row: absent figures, not zero."""


def replace_day(
    day: date,
    subject: str,
    tables: dict[str, TableRows],
    *,
    state: Completeness,
    completeness: Decimal,
    reason: str,
    detail: dict[str, Any],
    run_id: str,
    is_correction: bool | Callable[[dict[str, Any]], bool] = False,
) -> bool:
    """Replace all rows of ``subject`` on ``day`` and tell whether the content changed.

    ``tables`` maps names of SUBJECT_TABLES[subject] to their rows; a table that is left out is emptied for the day.
    ``completeness`` is the share of the source that was there, 0 to 1; ``detail`` is written as JSON.

    Known figures are never replaced by poorer ones: when ``completeness`` is lower than the stored one (the source
    has expired since), the stored rows stay, which the write's row of ops.metric_write and a warning say.
    ``is_correction`` says that nothing has expired: the source is whole and only more of it cannot be counted (a fee
    that has come without its amount), so that these rows are the better ones although they rest on less. A function
    tells that from the stored detail, which no other run changes meanwhile.
    The same values always give the same content hash, in whatever order the rows come.
    Raises ValueError for a table that is not the subject's, ConfigurationError and SourceUnavailable as
    ``session.transaction`` does.
    """
    _check(subject, tables)
    share = _rounded_down(completeness)
    facts = json.loads(json.dumps(detail, default=_json_text))
    digest = content_hash(tables, state=state, completeness=share, reason=reason, detail=facts)
    with session.transaction() as connection:
        _lock(connection, day, subject)
        stored = _stored(connection, day, subject)
        if stored is not None and share < stored.completeness and not _holds(is_correction, stored.detail):
            logger.warning(
                "%s of %s: only %s of the source is left and the known figures rest on %s of it, so they stay (%s)",
                subject, day, share, stored.completeness, reason,
            )  # fmt: skip
            _log(connection, day, subject, run_id, stored.content_hash, changed=False)
            return False
        for table in SUBJECT_TABLES[subject]:
            _replace_rows(connection, day, table, tables.get(table))
        _upsert_subject(connection, (day, subject, state.value, share, reason, json.dumps(facts), digest))
        changed = stored is None or stored.content_hash != digest
        _log(connection, day, subject, run_id, digest, changed=changed)
        return changed


def keep_day(day: date, subject: str, run_id: str) -> None:
    """Note in ops.metric_write that a run found less than the stored rows of a day rest on and left them as they are.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        _lock(connection, day, subject)
        if (stored := _stored(connection, day, subject)) is not None:
            _log(connection, day, subject, run_id, stored.content_hash, changed=False)


def amend_day(
    day: date, subject: str, *, completeness: Decimal, reason: str, detail: dict[str, Any], run_id: str
) -> bool:
    """Say of a day's rows that they are not all that belongs to it, and tell whether that is new; the rows stay.

    The subject becomes partial; ``completeness`` is its share, 0 to 1, ``detail`` is written as JSON. A day that was
    never computed stays so. The content hash is that of the rows with what was said of them, one after the other.
    Raises ValueError for a share that is none, and as ``session.transaction`` does.
    """
    share = _rounded_down(completeness)
    facts = json.loads(json.dumps(detail, default=_json_text))
    with session.transaction() as connection:
        _lock(connection, day, subject)
        stored = _stored(connection, day, subject)
        if stored is None:
            return False
        digest = stored.content_hash
        changed = (stored.completeness, stored.reason, stored.detail) != (share, reason, facts)
        if changed:
            digest = hashlib.sha256(f"{digest} {canonical([share, reason, facts])}".encode()).hexdigest()
            state = Completeness.PARTIAL.value
            _upsert_subject(connection, (day, subject, state, share, reason, json.dumps(facts), digest))
        _log(connection, day, subject, run_id, digest, changed=changed)
        return changed


def subject_states(days: Iterable[date]) -> dict[date, dict[str, SubjectState]]:
    """Return for each day the state of every subject; NEVER_COMPUTED where the warehouse has no row.

    Raises as ``session.transaction`` does.
    """
    wanted = sorted(set(days))
    states = {day: dict.fromkeys(SUBJECT_TABLES, NEVER_COMPUTED) for day in wanted}
    with session.transaction() as connection:
        found = connection.execute(
            "SELECT day, subject, state, completeness, reason, detail, content_hash"
            " FROM ops.daily_subject WHERE day = ANY (%(days)s)",
            {"days": wanted},
        )
        for day, subject, state, completeness, reason, detail, digest in found:
            states[day][subject] = SubjectState(Completeness(state), completeness, reason, detail, digest)
    return states


def days_changed_by(run_id: str, subject: str, days: Iterable[date]) -> list[date]:
    """Return those of ``days`` whose rows of ``subject`` a run has changed, oldest first.

    What it changed at an earlier try counts. Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        found = connection.execute(
            "SELECT DISTINCT day FROM ops.metric_write"
            " WHERE day = ANY (%s) AND subject = %s AND run_id = %s AND changed ORDER BY day",
            (list(days), subject, run_id),
        )
        return [day for (day,) in found]


def content_hash(
    tables: dict[str, TableRows], *, state: Completeness, completeness: Decimal, reason: str, detail: dict[str, Any]
) -> str:
    """Return SHA-256, in hexadecimal, over the rows and what is said of them, whatever their order.

    A table without rows counts like a table that is left out.
    """
    content = {
        "state": state.value,
        "completeness": completeness,
        "reason": reason,
        "detail": detail,
        "tables": {name: table for name, table in tables.items() if table.rows},
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return the one text of a value: equal values have equal texts, different ones different texts.

    Numbers are written without exponent and trailing zeros (Decimal 1.50, Decimal 1.5 and float 1.5 are one value),
    instants in UTC with microseconds, bytes as hexadecimal. Raises ValueError for an instant without a time zone
    or a number that is not finite, TypeError for any other kind of value.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return _canonical_number(value)
        case str():
            return json.dumps(value)
        case bytes() | bytearray() | memoryview():
            return f"bytes({bytes(value).hex()})"
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"the instant {value} has no time zone")
            return f"instant({value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f})"
        case date():
            return f"date({value.isoformat()})"
        case TableRows():
            return _canonical_rows(value)
        case dict():
            items = sorted(f"{json.dumps(str(key))}:{canonical(item)}" for key, item in value.items())
            return f"{{{','.join(items)}}}"
        case list() | tuple():
            return f"[{','.join(canonical(item) for item in value)}]"
    raise TypeError(f"no canonical text is defined for {type(value).__name__}")


def _canonical_rows(table: TableRows) -> str:
    """Neither the order of the rows nor that of the columns counts."""
    order = sorted(range(len(table.columns)), key=table.columns.__getitem__)
    if any(len(row) != len(order) for row in table.rows):
        raise ValueError(f"a row has another number of values than the columns {', '.join(table.columns)}")
    columns = [_canonical_column([row[place] for row in table.rows]) for place in order]
    texts = sorted(map(",".join, zip(*columns, strict=True)))
    return f"rows({canonical([table.columns[place] for place in order])};{';'.join(texts)})"


def _canonical_column(values: list[Any]) -> list[str]:
    """Most values of a column are equal to others: each simple one is put into words once (its type too: 1 == True)."""
    known: dict[tuple[type, Any], str] = {}
    texts = []
    for value in values:
        if isinstance(value, (dict, list, tuple, bytearray, memoryview)):
            texts.append(canonical(value))
            continue
        key = (type(value), value)
        text = known.get(key)
        if text is None:
            text = known[key] = canonical(value)
        texts.append(text)
    return texts


def _canonical_number(value: float | Decimal) -> str:
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"{value} is not a finite number")
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _json_text(value: Any) -> str:
    """How a value that JSON does not know stands in ``detail``."""
    if isinstance(value, date):  # an instant too
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{type(value).__name__} cannot stand in the detail of a subject")


def _rounded_down(completeness: Decimal) -> Decimal:
    """To the step that the column holds, down: 1 is said only of a source that was wholly there."""
    if not 0 <= completeness <= 1:
        raise ValueError(f"completeness {completeness} is not between 0 and 1")
    return completeness // _STEP * _STEP


def _check(subject: str, tables: dict[str, TableRows]) -> None:
    if subject not in SUBJECT_TABLES:
        raise ValueError(f"{subject} is not a subject; there are {', '.join(SUBJECT_TABLES)}")
    for name, table in tables.items():
        if name not in SUBJECT_TABLES[subject]:
            raise ValueError(f"{name} is not a table of the subject {subject}")
        if "day" in table.columns:
            raise ValueError(f"the rows of {name} name the column day, which the writer adds itself")


def _lock(connection: psycopg.Connection[Any], day: date, subject: str) -> None:
    """Two runs of the same day's subject wait for each other until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"daily_subject {subject} {day}",))


def _stored(connection: psycopg.Connection[Any], day: date, subject: str) -> SubjectState | None:
    found = connection.execute(
        "SELECT state, completeness, reason, detail, content_hash FROM ops.daily_subject"
        " WHERE day = %s AND subject = %s",
        (day, subject),
    ).fetchone()
    return SubjectState(Completeness(found[0]), *found[1:]) if found else None


def _holds(is_correction: bool | Callable[[dict[str, Any]], bool], stored: dict[str, Any]) -> bool:
    return is_correction(stored) if callable(is_correction) else is_correction


def _replace_rows(connection: psycopg.Connection[Any], day: date, table: str, new: TableRows | None) -> None:
    from psycopg import sql

    name = sql.Identifier("ops", table)
    connection.execute(sql.SQL("DELETE FROM {} WHERE day = %s").format(name), (day,))
    if new is None or not new.rows:
        return
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in ("day", *new.columns))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, columns)) as copy,
    ):
        for row in new.rows:
            copy.write_row((day, *row))


def _upsert_subject(connection: psycopg.Connection[Any], row: tuple[Any, ...]) -> None:
    connection.execute(
        "INSERT INTO ops.daily_subject (day, subject, state, completeness, reason, detail, content_hash)"
        " VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s)"
        " ON CONFLICT (day, subject) DO UPDATE SET state = excluded.state, completeness = excluded.completeness,"
        " reason = excluded.reason, detail = excluded.detail, content_hash = excluded.content_hash",
        row,
    )


def _log(
    connection: psycopg.Connection[Any], day: date, subject: str, run_id: str, digest: str, *, changed: bool
) -> None:
    connection.execute(
        "INSERT INTO ops.metric_write (day, subject, run_id, content_hash, changed) VALUES (%s, %s, %s, %s, %s)",
        (day, subject, run_id, digest, changed),
    )
