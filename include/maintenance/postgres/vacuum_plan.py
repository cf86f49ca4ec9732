"""Decides which of the platform's tables to vacuum or analyze now, in which order, and whether they fit in the window.

Guide, "Database Maintenance". Tables are rated by PostgreSQL's own rules for autovacuum with each table's own settings;
the statements stand in vacuum_plan.sql. ``vacuum`` then does the work, table by table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError
from include.platform import database, maintenance_rights
from include.settings import settings
from include.warehouse import actions, session
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

    from include.platform.database import Horizon

ALL_TABLES = "all tables"
KINDS = ("vacuum", "analyze")
MOST_TABLES = 500
"""Tables that one run maintains at most: Airflow maps no more than 1,024 tasks."""

LONGEST_WINDOW_MINUTES = 720

STATEMENTS = statements(__file__)
_PARTS = ("owner", "rows_of", "vacuum_on_it", "tree", "table_changes")
_AGES = ("transaction_share", "multixact_share")
_SHARES = ("dead_share", "inserted_share", "changed_share")
_ROWS = ("dead_rows", "toast_dead_rows", "inserted_rows", "changed_rows")
_LIMITS = ("dead_limit", "inserted_limit", "changed_limit")
_ASSUMED_BYTES_PER_SECOND = 20e6  # of a vacuum, while nothing has been measured yet: a slow disk
_ASSUMED_ANALYZE_SECONDS = 5.0  # it reads a sample of 30,000 rows, however large the table is
_LEAST_SECONDS = 0.05
_SHORTEST_MEASURED_SECONDS = 1.0  # a shorter vacuum measured its fixed costs: what is larger goes at the assumed speed
_FREEZE_HELPS_BELOW = 0.9  # of a table's age: what a held horizon may have for freezing to be worth its writes


def plan_tables(run_id: str, dry_run: bool = False, ends_at: datetime | None = None) -> list[dict[str, Any]]:
    """Return the tables that need work, the worst first, each as what ``vacuum.maintain`` takes.

    A table is due from ``due_share`` of its own autovacuum thresholds on (dead rows, inserted rows, changed rows), when
    the planner knows nothing about some column, or when it is to be frozen (``freeze_share`` of its freeze_max_age).
    First come those in danger of transaction id wraparound, then those that an earlier run began or postponed.
    What is due but left alone (a vacuum or analyze is on it, its horizon is held, the role may not maintain it) is
    recorded with its reason, and so is "nothing to do". ``ends_at`` (aware) is the end of the maintenance window,
    absent without one. Raises ConfigurationError (also for a role that may maintain none of the tables) or
    SourceUnavailable, and records that too: a list that could not be read is a failure.
    """
    wanted = settings().maintenance.vacuum
    limits = {"due_share": wanted.due_share, "freeze_share": wanted.freeze_share, "exclude": wanted.exclude}
    with session.kept_open():
        whole = actions.plan("vacuum", ALL_TABLES, run_id, dry_run=dry_run, plan=limits)
        with (
            actions.failures_recorded(whole),
            database.maintenance_session("the list of tables") as connection,
        ):
            looked_at, hidden, found, parents = _due(connection, limits)
            holders = {of: database.horizon(connection, of) for of in {one["rows_of"] for one in found + parents}}
            version, blind_role = database.server_version(connection), database.blind_role(connection)
        earlier = actions.recent(KINDS, list({one["name"] for one in found + parents})) if found + parents else []
        found = _with_parents(found, [one for one in parents if _parent_is_due(one, earlier, wanted.due_share)])
        looked_at += sum(one["partitioned"] for one in parents)
        items = [_item(one, earlier, holders[one["rows_of"]], version) for one in found]
        reasons = {item["table"]: _reason_to_leave(item) for item in items}
        for item in items:
            if reason := reasons[item["table"]]:
                _leave(item, run_id, dry_run, reason, postponed=waits(item, item))
        due = [item for item in items if not reasons[item["table"]]]
        due += _interrupted(run_id, {item["table"]: item for item in items})
        due = [item for item in due if _has_work(item)]
        due.sort(key=_urgency)
        for item in due[MOST_TABLES:]:
            _leave(item, run_id, dry_run, f"{MOST_TABLES} worse tables fill this run", postponed=True)
        del due[MOST_TABLES:]
        _schedule(due, wanted.tables_at_once, ends_at)
        facts = {
            "looked_at": looked_at,
            "statistics_hidden": hidden,
            "left_alone": sorted(name for name, reason in reasons.items() if reason),
            "not_allowed": {
                item["table"]: item["not_allowed"] for item in items if item["not_allowed"] and _has_work(item)
            },
            "blind_role": blind_role,
        }
        _record(whole, run_id, dry_run, limits | facts, due, ends_at)
        return due


_Facts = list[dict[str, Any]]


def _due(connection: psycopg.Connection[Any], limits: dict[str, Any]) -> tuple[int, int, _Facts, _Facts]:
    """How many tables were looked at, of how many the role may not see all statistics, which are due, and all parents.

    Parents are partitioned tables and those that others inherit from, which may be due by themselves as well.
    """
    from psycopg.rows import dict_row

    parts = {
        # Since PostgreSQL 18 autovacuum scales inserts by the share of the table that is not frozen yet.
        "frozen_pages": "c.relallfrozen" if database.server_version(connection) >= 180000 else "NULL::integer",
        **parts_of(connection),
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(composed(STATEMENTS["due"], parts), limits).fetchall()
        parents = cursor.execute(composed(STATEMENTS["parents"], parts), limits).fetchall()
    if rows[0]["looked_at"] and not rows[0]["may_maintain_at_all"]:
        new = database.server_version(connection) >= 170000
        remedy = "grant it pg_maintain" if new else "make it a member of the role that owns them"
        raise ConfigurationError(f"the role of {database.MAINTENANCE} may maintain none of the tables; {remedy}")
    tables = [row | {"parent": False} for row in rows if row["name"] is not None]
    whole = {"parent": True, "catalog": False, "excluded": False}
    return int(rows[0]["looked_at"]), int(rows[0]["statistics_hidden"]), tables, [row | whole for row in parents]


def _with_parents(due: _Facts, parents: _Facts) -> _Facts:
    """The tables that are due and the parents that are; of one that is due as both, one act does all of it."""
    both = {one["name"]: one["changed_share"] for one in parents}
    for one in due:
        if (share := both.pop(one["name"], None)) is not None:
            one["changed_share"] = max(share, one["changed_share"] or 0.0)
    return due + [one for one in parents if one["name"] in both]


def parts_of(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """SQL about the relation ``c`` that several statements share. To vacuum is a privilege since PostgreSQL 17."""
    may = maintenance_rights.may_maintain(database.server_version(connection))
    return {"may_maintain": may} | {name: STATEMENTS[name] for name in _PARTS}


def composed(statement: str, parts: dict[str, str]) -> Any:
    """Put the parts that differ by version into a statement; they are constants of this room, never input."""
    from psycopg import sql

    return sql.SQL(statement).format(**{name: sql.SQL(part) for name, part in parts.items()})


def _parent_is_due(parent: dict[str, Any], earlier: Sequence[actions.Action], due_share: float) -> bool:
    """Whether the tables below a table have changed enough since our last proven analyze of the whole.

    Without one it is due. A table that is gone counts with all that it had seen, and so do lost statistics.
    """
    own = [action for action in earlier if action.resource == parent["name"] and action.state == "proven"]
    known = [proof["after"].get("table_changes") for action in own if (proof := action.proof) and proof.get("analyzed")]
    changed, now = None, parent["table_changes"]
    if known and (then := known[0]) is not None:
        changed = sum(abs(now.get(table, 0) - then.get(table, 0)) for table in now.keys() | then.keys())
    parent["changed_share"] = 1.0 if changed is None else changed / max(1.0, parent["changed_limit"])
    parent["changed_rows"] = changed
    return bool(parent["changed_share"] >= due_share)


def _item(
    found: dict[str, Any], earlier: Sequence[actions.Action], holder: Horizon | None, version: int
) -> dict[str, Any]:
    """What is to be done with a table that may be due, as JSON-able facts."""
    wanted = settings().maintenance.vacuum
    own = [action for action in earlier if action.resource == found["name"]]
    facts = {name: found.get(name) for name in (*_ROWS, "unknown_columns", "size_bytes")}
    facts |= {name: _rounded(found.get(name)) for name in (*_SHARES, *_AGES, *_LIMITS)}
    age = max((found.get(name) or 0.0) for name in _AGES)
    ours = not (found["parent"] or found["catalog"] or found["excluded"])
    dirty = ours and max(found["dead_share"], found["inserted_share"] or 0.0) >= wanted.due_share
    unknown = ours and (found["never_analyzed"] or (found["unknown"] and not _in_vain(own, found["unknown_columns"])))
    item: dict[str, Any] = {
        "table": found["name"],
        "vacuum": dirty,
        "freeze": age >= wanted.freeze_share,
        "analyze": found["parent"] or unknown or (ours and (found["changed_share"] or 0.0) >= wanted.due_share),
        "danger": age >= 1.0,
        "score": round(max(1.0 if unknown else 0.0, age, *(found.get(name) or 0.0 for name in _SHARES)), 4),
        "facts": facts,
        "postponed_before": bool(own) and own[0].state == "postponed",
        "busy_with": found.get("busy_with"),
        "busy_analyzes": found.get("busy_analyzes"),
        "held_by": None,
        "not_allowed": None if found["may_maintain"] else remedy_of_privilege(version, found["name"], found),
    }
    if holder is not None and dirty and _is_held(found, own, holder):
        # What the next vacuum could remove, the last one has removed.
        item["vacuum"], item["held_by"] = False, holder.holder
    by_transactions = item["freeze"] and found["multixact_share"] < wanted.freeze_share
    if by_transactions and holder is not None and holder.age >= _FREEZE_HELPS_BELOW * found["transaction_age"]:
        # Freezing lowers a table's age to the horizon's and no further.
        item["freeze"], item["held_by"] = False, holder.holder
    seconds, item["expectation_is_measured"] = _expected_seconds(item, own, earlier)
    item["expected_seconds"] = round(seconds, 2)
    return item


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _is_held(found: dict[str, Any], own: Sequence[actions.Action], holder: Horizon) -> bool:
    """Whether all dead rows died after the holder's snapshot, because a vacuum has come by since.

    That is so when our own last vacuum of it met the same horizon, or, where it met none, when the table was vacuumed
    after the holder began. When it met an older one, or nobody vacuumed the table since, its rows are worth a try.
    """
    met = [action.proof.get("horizon") for action in own if action.kind == "vacuum" and action.proof]
    if met and met[0] is not None:
        return bool(holder.transaction <= met[0])
    return bool(holder.since is not None and found["vacuumed_at"] is not None and holder.since < found["vacuumed_at"])


def _in_vain(own: Sequence[actions.Action], unknown_columns: int | None) -> bool:
    """Whether our last analyze left as many columns unknown: there are types without statistics."""
    proofs = [action.proof for action in own if action.state == "proven" and action.proof]
    left = [proof["after"]["unknown_columns"] for proof in proofs if proof.get("analyzed")]
    return bool(left) and bool(left[0] == unknown_columns)


def _expected_seconds(
    item: dict[str, Any], own: Sequence[actions.Action], earlier: Sequence[actions.Action]
) -> tuple[float, bool]:
    """Seconds that a table is expected to take, and whether that was measured of itself.

    It takes as long as the slowest of its last five acts of the kind that rested as it will, by their size. One that
    was stopped at the end of a window counts with twice what it had taken by then. Without any, the slowest of the
    other tables' is taken, and at first a constant.
    """
    rests = settings().maintenance.vacuum.cost_delay_milliseconds
    kind = "vacuum" if item["vacuum"] or item["freeze"] else "analyze"
    size = item["facts"]["size_bytes"] or 0

    def expected(action: actions.Action) -> float | None:
        done, before = action.applied or {}, action.plan.get("before") or {}
        if action.kind != kind or not done.get("seconds") or done.get("cost_delay_milliseconds", 0) != rests:
            return None
        seconds = float(done["seconds"]) * (1 if action.state == "proven" else 2)
        if kind == "analyze":
            return seconds
        then = before.get("size_bytes") or 0
        by_size = seconds * size / max(1, then)
        if float(done["seconds"]) >= _SHORTEST_MEASURED_SECONDS:
            return by_size
        return min(by_size, seconds + max(0, size - then) / _ASSUMED_BYTES_PER_SECOND)

    for acts in (own, earlier):
        if known := [one for action in acts if (one := expected(action)) is not None]:
            return max(_LEAST_SECONDS, *known), acts is own
    assumed = size / _ASSUMED_BYTES_PER_SECOND if kind == "vacuum" else _ASSUMED_ANALYZE_SECONDS
    return max(_LEAST_SECONDS, assumed), False


def _has_work(item: dict[str, Any]) -> bool:
    """Whether something is to be done; a table in danger whose horizon is held counts: it must be seen to fail."""
    return bool(item["vacuum"] or item["freeze"] or item["analyze"] or (item["held_by"] and item["danger"]))


def left_to(item: dict[str, Any], now: dict[str, Any]) -> str:
    """Whose work on a table, by its facts now, is not to be disturbed; empty when it is nobody's.

    Another's analyze keeps a vacuum out for as long as it lasts, which only a table in danger is worth waiting for.
    """
    if not now["busy_with"] or (waits(item, now) and item["danger"]):
        return ""
    return f"{now['busy_with']} this table already"


def waits(item: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether another's work on a table keeps it from a vacuum which that work does not make up for."""
    return bool(now["busy_with"] and now["busy_analyzes"] and (item["vacuum"] or item["freeze"]))


def remedy_of_privilege(version: int, name: str, owner: dict[str, Any]) -> str:
    """What lets the maintenance role vacuum a table; before PostgreSQL 17 only its owner may."""
    if version >= 170000:
        return f"GRANT MAINTAIN ON {name} (or pg_maintain) to it"
    if owner["owned_by_superuser"]:
        return f"its owner {owner['owner']} is a superuser and has to do it; no other role should be made a member"
    return f"make it a member of {owner['owner']}, which owns the table"


def _reason_to_leave(item: dict[str, Any]) -> str:
    """Why a table that is due is left alone; empty when it is not due or not left alone."""
    if reason := left_to(item, item):
        return reason
    if item["not_allowed"] and _has_work(item) and not item["danger"]:
        return f"the role of {database.MAINTENANCE} may not maintain it: {item['not_allowed']}"
    if item["held_by"] and not _has_work(item):
        return f"a vacuum could remove nothing while {item['held_by']} needs the dead rows"
    return ""


def _leave(item: dict[str, Any], run_id: str, dry_run: bool, reason: str, postponed: bool = False) -> None:
    action = actions.plan(kind_of(item), item["table"], run_id, dry_run=dry_run, plan=plan_of(item))
    if not action.done:
        (actions.postpone if postponed else actions.nothing_to_do)(action, reason)


def kind_of(item: dict[str, Any]) -> str:
    """Kind of act that a table's work is recorded as."""
    return "vacuum" if item["vacuum"] or item["freeze"] or not item["analyze"] else "analyze"


def plan_of(item: dict[str, Any]) -> dict[str, Any]:
    """What a table's plan says: the whole item but its name."""
    return {name: value for name, value in item.items() if name != "table" and value is not None}


def _interrupted(run_id: str, known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Take up what an earlier attempt of this run began and did not finish, also where it no longer looks due.

    A table may look so because the act ended in time, or because the server lost its statistics in a crash. What was
    wanted of a table that is known as due is added to it; the others are returned.
    """
    more = []
    for action in actions.left_by(run_id):
        if action.kind not in KINDS or action.state not in ("applying", "failed") or action.resource == ALL_TABLES:
            continue
        if (item := known.get(action.resource)) is None:
            wanted = {name: value for name, value in action.plan.items() if name != "before"}
            more.append({"busy_with": None, "held_by": None, "not_allowed": None} | wanted | {"table": action.resource})
        elif not item["held_by"]:
            for work in ("vacuum", "freeze", "analyze"):
                item[work] = bool(item[work] or action.plan.get(work))
    return more


def _urgency(item: dict[str, Any]) -> tuple[Any, ...]:
    ages = [item["facts"].get(name) or 0.0 for name in _AGES]
    return (not item["danger"], -max(ages) if item["danger"] else 0.0, not item["postponed_before"], -item["score"],
            item["table"])  # fmt: skip


def _schedule(due: list[dict[str, Any]], at_once: int, ends_at: datetime | None) -> None:
    """Note when each table should begin and whether it should fit; whether it does is seen when its turn comes."""
    free = [0.0] * at_once
    left = None if ends_at is None else max(0.0, (ends_at - datetime.now(UTC)).total_seconds())
    for item in due:
        lane = free.index(min(free))
        item["begins_after_seconds"] = round(free[lane], 2)
        item["fits"] = left is None or item["danger"] or free[lane] + item["expected_seconds"] <= left
        item["ends_at"] = ends_at.isoformat() if ends_at else None
        if item["fits"]:
            free[lane] += item["expected_seconds"]


def _record(
    whole: actions.Action,
    run_id: str,
    dry_run: bool,
    facts: dict[str, Any],
    due: list[dict[str, Any]],
    ends_at: datetime | None,
) -> None:
    """Record the plan as a whole: what was looked at, what is due in which order, what is expected not to fit."""
    plan = facts | {
        "due": [{"table": item["table"], "score": item["score"]} for item in due],
        "expected_not_to_fit": [item["table"] for item in due if not item["fits"]],
        "expected_seconds": round(sum(item["expected_seconds"] for item in due), 2),
        "window_seconds": round((ends_at - datetime.now(UTC)).total_seconds(), 1) if ends_at else None,
        "window_ends_at": ends_at.isoformat() if ends_at else None,
    }
    whole = actions.plan("vacuum", ALL_TABLES, run_id, dry_run=dry_run, plan=plan)
    wanted_before = {one["table"] for one in whole.plan["due"]} - {item["table"] for item in due}
    if wanted_before:  # by an earlier attempt, whose plan stands: what it never came to is told to be due no more
        for name in wanted_before - {action.resource for action in actions.of_run(run_id, KINDS)}:
            action = actions.plan("vacuum", name, run_id, dry_run=dry_run, plan={})
            actions.nothing_to_do(action, "it was due when the run began and needs no work any more")
    if not due and not whole.done:
        left = f"; left alone, each with its reason: {', '.join(facts['left_alone'])}" if facts["left_alone"] else ""
        hidden = facts["statistics_hidden"]
        left += f"; the role may not see whether {hidden} of them lack statistics of a column" if hidden else ""
        actions.nothing_to_do(whole, f"{facts['looked_at']} tables were looked at and none needs work now{left}")


def window_end(minutes: int, begins_at: datetime | None = None) -> datetime:
    """Return the end of a maintenance window (aware UTC) that begins then, or now when that is not given.

    Raises ConfigurationError for a length out of bounds.
    """
    if not 1 <= minutes <= LONGEST_WINDOW_MINUTES:
        raise ConfigurationError(
            f"a maintenance window of {minutes} minutes is not between 1 and {LONGEST_WINDOW_MINUTES}; correct it"
        )
    return (begins_at or datetime.now(UTC)).astimezone(UTC) + timedelta(minutes=minutes)


def in_window_of(item: dict[str, Any], run_began_at: datetime | None, minutes: int) -> dict[str, Any]:
    """Return a table's work with the end of the window that it is in.

    That is the end which its plan gave it, but for a run that began after the plan was made: Airflow begins a finished
    run anew, without planning anew, when somebody clears one of its tables, and that has a window of its own.
    """
    if not item.get("ends_at") or run_began_at is None:
        return item
    ends_at = max(datetime.fromisoformat(item["ends_at"]), window_end(minutes, run_began_at))
    return item | {"ends_at": ends_at.isoformat()}
