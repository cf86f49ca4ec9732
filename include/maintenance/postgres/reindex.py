"""Rebuilds bloated indexes without locking anybody out (REINDEX INDEX CONCURRENTLY), after approval of large ones.

Only bloat that was measured is acted on. A rebuilding that was interrupted leaves an invalid index behind: the next
attempt removes what this collection's own act left, and nothing else. The statements stand in reindex.sql.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import bloat
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import actions, findings
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

ALL_INDEXES = "all indexes"
KIND = "reindex"
_NO_ANSWER = "nobody approved it in time"
_STATEMENTS = statements(__file__)
_BODY = """`REINDEX INDEX CONCURRENTLY {index}` would give back **{wasted}** of {size}, as measured by pgstattuple.
Readers and writers are not locked out. While it runs it takes up to {size} of disk space, reads the whole table
and keeps autovacuum from it. The numbers are in `ops.finding`: run `{run_id}`, check `{check}`."""


def candidates(run_id: str, dry_run: bool, most_indexes: int | None = None) -> list[dict[str, Any]]:
    """Return the indexes whose bloat this run has measured, the most wasteful first.

    Each is ``{"index": quoted name, "size_bytes", "wasted_bytes", "needs_approval"}``. At most ``most_indexes`` (the
    configured number by default). With none, "nothing to do" is recorded with its reason. Raises ConfigurationError or
    SourceUnavailable, and MaintenanceFailed when another task of the same run has begun that act.
    """
    wanted = settings().maintenance.reindex
    most = wanted.most_indexes if most_indexes is None else most_indexes
    reviewed = findings.of_run(run_id, bloat.INDEX_BLOAT)
    found = [one for one in reviewed if one.outcome is Outcome.WARNING]
    unknown = sum(one.outcome is Outcome.UNKNOWN for one in reviewed)
    measured = [one for one in found if one.evidence.get("measured_wasted_bytes") is not None]
    measured.sort(key=lambda one: (-one.evidence["measured_wasted_bytes"], one.resource))
    chosen = [
        {
            "index": one.resource,
            "size_bytes": one.evidence["size_bytes"],
            "wasted_bytes": one.evidence["measured_wasted_bytes"],
            "needs_approval": one.evidence["size_bytes"] > wanted.without_approval_up_to_bytes,
        }
        for one in measured[:most]
    ]
    if not chosen:
        plan = {"bloated": len(found), "measured": len(measured), "unknown": unknown, "most_indexes": most}
        action = actions.plan(KIND, ALL_INDEXES, run_id, dry_run=dry_run, plan=plan)
        if not action.done:
            actions.nothing_to_do(action, _why_nothing(len(found), len(measured), unknown))
    return chosen


def _why_nothing(found: int, measured: int, unknown: int) -> str:
    if measured:
        return "the run may rebuild no index (most_indexes is 0)"
    if found:
        return "bloat is estimated only; it is rebuilt once pgstattuple has measured it"
    if unknown:
        return f"no index is known to be bloated; {unknown} could be neither estimated nor measured"
    return "no index is bloated"


def questions(chosen: list[dict[str, Any]], run_id: str) -> list[dict[str, Any]]:
    """Return what a person is asked about each index that needs an approval, as Airflow's HITLOperator takes it.

    That is ``subject``, ``body`` (Markdown), ``options`` (to rebuild it, to leave it) and the ``defaults`` of them.
    """
    return [
        {
            "options": _options(one["index"]),
            "defaults": _options(one["index"])[1:],
            "subject": f"Rebuild the index {_plain(one['index'])}?",
            "body": _BODY.format(
                index=_plain(one["index"]),
                wasted=_megabytes(one["wasted_bytes"]),
                size=_megabytes(one["size_bytes"]),
                run_id=_plain(run_id),
                check=bloat.INDEX_BLOAT,
            ),
        }
        for one in chosen
        if one["needs_approval"]
    ]


def decisions(chosen: list[dict[str, Any]], answers: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Join the indexes with the answers to their questions, which are in the same order.

    Returns ``{"candidate", "approved", "answer"}`` each. No answers at all are no approvals. Raises ConfigurationError
    when there are some, but not as many as questions: whose they are is unknown then; and for one about another index.
    """
    waiting = [one for one in chosen if one["needs_approval"]]
    if answers and len(answers) != len(waiting):  # Airflow leaves out a question without an answer, and its place
        raise ConfigurationError(f"{len(answers)} answers were given to {len(waiting)} questions; start the run again")
    given = dict(zip([one["index"] for one in waiting], answers, strict=False))
    return [
        {"candidate": one, "approved": True, "answer": ""}
        if not one["needs_approval"]
        else {"candidate": one} | _understood(one["index"], given.get(one["index"]) or {})
        for one in chosen
    ]


def _options(index: str) -> list[str]:
    return [f"Rebuild {index}", f"Leave {index}"]


def _understood(index: str, answer: dict[str, Any]) -> dict[str, Any]:
    given, person = answer.get("chosen_options") or [], answer.get("responded_by_user")
    if not set(given) <= set(_options(index)):
        raise ConfigurationError(f"the answer {given} is not to the question about {index}; trigger a new run")
    if person is None:
        return {"approved": False, "answer": _NO_ANSWER}
    approved = given == _options(index)[:1]
    return {"approved": approved, "answer": f"{'approved' if approved else 'rejected'} by {person['name']}"}


def _plain(name: str) -> str:
    # The text is a template for Airflow and Markdown for the browser.
    return name.replace("{", "(").replace("}", ")").replace("`", "'")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def clean_up(run_id: str) -> list[str]:
    """Remove what this collection's interrupted rebuildings have left; return the names of those indexes.

    An act tells which invalid indexes were there before it began: those and everybody else's are left alone. Each
    removal is an act of the run, with the index that was left as its resource. Raises
    ConfigurationError (the role may not drop them), MaintenanceFailed or SourceUnavailable.
    """
    removed: list[str] = []
    with database.maintenance_session("the rest of interrupted rebuildings") as connection:
        for act in actions.left_by(run_id):  # a killed attempt may have dropped it and not said so
            if act.kind == KIND and "left_by_run" in act.plan and not _exists(connection, act.plan):
                removed += _remove(connection, act.resource, act.plan, run_id, None)
        found = connection.execute(_STATEMENTS["left_over"], {"name": None}).fetchall()
        for index in sorted({row[4] for row in found}):
            facts = _measure(connection, index)
            for act in actions.begun(KIND, index):
                if act.state != "proven" and facts and not _busy(connection, facts):
                    for row in _left_over(connection, act):
                        before = {"oid": row[0], "size_bytes": row[6], "valid": False}
                        plan = {"left_by_run": act.run_id, "rebuilding_of": index, "before": before}
                        removed += _remove(connection, row[3], plan, run_id, row)
    return removed


def _remove(
    connection: psycopg.Connection[Any], name: str, plan: dict[str, Any], run_id: str, left: tuple[Any, ...] | None
) -> list[str]:
    """Remove what a rebuilding left (None: it is gone), as an act with its proof; return the index's name."""
    act = actions.plan(KIND, name, run_id, dry_run=False, plan=plan)
    if act.done:  # another of the same name was removed by this run: the next one removes this
        return []
    with actions.failures_recorded(act), database.errors_named(f"removal of {name}"):
        act = actions.applying(act)
        applied = {"statement": _drop(connection, left)} if left else {"by": "an earlier attempt"}
        if _exists(connection, plan):
            raise MaintenanceFailed(f"the index {name}, which an interrupted rebuilding left, is still there")
        size = plan["before"]["size_bytes"]
        proof = {"before": plan["before"], "after": {"exists": False, "size_bytes": 0}, "bytes_returned": size}
        reason = f"an interrupted rebuilding of {plan['rebuilding_of']} had left it: it was dropped, not rebuilt"
        actions.prove(act, proof, applied, reason)
    return [name]


def _exists(connection: psycopg.Connection[Any], plan: dict[str, Any]) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = %s)"
    return connection.execute(query, (plan["before"]["oid"],)).fetchone() == (True,)


def rebuild(
    candidate: dict[str, Any], run_id: str, dry_run: bool, *, approved: bool = True, answer: str = ""
) -> dict[str, Any]:
    """Rebuild one index and prove it: it is another, valid one under the same name, with nothing left beside it.

    ``answer`` says who approved or rejected it. What was not approved is recorded as nothing to do, with that reason.
    A repeated task waits for the rebuilding that the server may still be doing for the killed one. Returns the act's
    summary. Raises ConfigurationError (a privilege, a version that corrupts indexes), MaintenanceFailed (no effect, or
    others are in the way) or SourceUnavailable.
    """
    name = str(candidate["index"])
    what = f"REINDEX of {name}"
    if dry_run and answer == _NO_ANSWER:
        answer = "nobody was asked in a dry run"
    with database.maintenance_session(what) as connection:
        before = _measure(connection, name)
        if before is None:
            return _gone(name, run_id, dry_run, answer)
        plan = {"before": before, "wasted_bytes": candidate.get("wasted_bytes"), "answer": answer}
        action = actions.plan(KIND, name, run_id, dry_run=dry_run, plan=plan)
        if action.done or dry_run:
            return action.summary()
        if not approved:
            return actions.nothing_to_do(action, answer or "it was not approved").summary()
        with actions.failures_recorded(action), database.errors_named(what):
            _refuse_corruption(connection, name)
            _wait_until_free(connection, before)
            _refuse_long_transactions(connection, name)
            action = actions.applying(action)
            _remove_left_over(connection, action)
            applied = _apply(connection, action)
            return _prove(connection, action, applied)


def _gone(name: str, run_id: str, dry_run: bool, answer: str) -> dict[str, Any]:
    """Record that an index was dropped since it was chosen; raise ConfigurationError when its rebuilding had begun."""
    action = actions.plan(KIND, name, run_id, dry_run=dry_run, plan={"answer": answer})
    if action.done:
        return action.summary()
    if "before" in action.plan:
        with actions.failures_recorded(action):
            raise ConfigurationError(f"the index {name} does not exist any more; it needs no rebuilding")
    return actions.nothing_to_do(action, "the index does not exist any more").summary()


def _apply(connection: psycopg.Connection[Any], action: actions.Action) -> dict[str, Any]:
    """Run the statement, unless an earlier attempt's has done it already; remove what a failed one leaves."""
    import psycopg
    from psycopg import sql

    now = _measure(connection, action.resource)
    if now is None:
        raise MaintenanceFailed(f"the index {action.resource} vanished while it was to be rebuilt")
    statement = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(now["schema"], now["relation"]))
    text = statement.as_string(connection)
    if now["valid"] and now["oid"] != action.plan["before"]["oid"]:
        return {"statement": text, "by": "an earlier attempt"}
    # It locks nobody out, but waits for older transactions; to give up there would leave an invalid index.
    seconds = settings().maintenance.reindex.wait_seconds
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(int(seconds * 1000)),))
    try:
        connection.execute(statement)
    except psycopg.Error:
        if not connection.closed:
            _remove_left_over(connection, action)
        raise
    return {"statement": text}


def _prove(connection: psycopg.Connection[Any], action: actions.Action, applied: dict[str, Any]) -> dict[str, Any]:
    before, after = action.plan["before"], _measure(connection, action.resource)
    if after is None or not after["valid"] or after["oid"] == before["oid"]:
        raise MaintenanceFailed(f"the index {action.resource} was not rebuilt: it is {'invalid' if after else 'gone'}")
    proof = {"before": before, "after": after, "bytes_returned": before["size_bytes"] - after["size_bytes"]}
    if left := _left_over(connection, action):
        raise MaintenanceFailed(f"the rebuilding of {action.resource} left {left[0][3]} behind")
    reason = "" if proof["bytes_returned"] > 0 else "the index is as valid as before but has not become smaller"
    return actions.prove(action, proof, applied, reason).summary()


# ---------------------------------------------------------------------------------------------- what is there
def _measure(connection: psycopg.Connection[Any], name: str) -> dict[str, Any] | None:
    """Return the facts of an index, its wasted space included where pgstattuple may be used; None without one."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        facts = cursor.execute(_STATEMENTS["index"], {"name": name}).fetchone()
    schema = bloat.measuring_schema(connection)
    limit = settings().maintenance.index_review.measure_at_most_bytes
    if facts and facts["valid"] and schema and facts["size_bytes"] <= limit:
        facts |= bloat.measure_index(connection, schema, facts)
    return facts


def _left_over(connection: psycopg.Connection[Any], action: actions.Action) -> list[tuple[Any, ...]]:
    found = connection.execute(_STATEMENTS["left_over"], {"name": action.resource}).fetchall()
    return [row for row in found if row[0] not in action.plan["before"]["invalid_before"]]


def _remove_left_over(connection: psycopg.Connection[Any], action: actions.Action) -> None:
    for left in _left_over(connection, action):
        _drop(connection, left)


def _drop(connection: psycopg.Connection[Any], left: tuple[Any, ...]) -> str:
    """Drop a row of ``left_over``; return the statement."""
    from psycopg import sql

    _, schema, relation, name, _, may_drop, _ = left
    if not may_drop:
        raise ConfigurationError(
            f"an interrupted rebuilding left the invalid index {name}, which {database.MAINTENANCE} may not drop; "
            f"as its owner run: DROP INDEX CONCURRENTLY {name}"
        )
    statement = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, relation))
    connection.execute(statement)
    return statement.as_string(connection)


def _busy(connection: psycopg.Connection[Any], facts: dict[str, Any]) -> list[int]:
    return [pid for (pid,) in connection.execute(_STATEMENTS["busy"], {"table_oid": facts["table_oid"]})]


def _wait_until_free(connection: psycopg.Connection[Any], facts: dict[str, Any]) -> None:
    """Wait for whoever builds an index of the table, vacuums it or changes it; raise MaintenanceFailed in the end."""
    deadline = time.monotonic() + settings().maintenance.reindex.wait_seconds
    while busy := _busy(connection, facts):
        if time.monotonic() > deadline:
            raise MaintenanceFailed(
                f"process {busy[0]} builds an index of {facts['table_name']}, vacuums or changes it for longer than "
                f"the rebuilding of {facts['name']} waits; try again when it has ended"
            )
        time.sleep(0.2)


def _refuse_corruption(connection: psycopg.Connection[Any], name: str) -> None:
    """Raise ConfigurationError where the server's version may corrupt what it builds CONCURRENTLY (fixed in 14.4)."""
    if database.update_first(connection):
        raise ConfigurationError(f"PostgreSQL 14.0 to 14.3 may corrupt {name} by rebuilding it; update to 14.4 first")


def _refuse_long_transactions(connection: psycopg.Connection[Any], name: str) -> None:
    """Raise MaintenanceFailed before anything has begun when the rebuilding would wait in vain."""
    seconds = settings().maintenance.reindex.wait_seconds
    if row := connection.execute(_STATEMENTS["long_transaction"], {"seconds": seconds}).fetchone():
        raise MaintenanceFailed(f"the rebuilding of {name} would have to wait for {row[0]}; end it and try again")
