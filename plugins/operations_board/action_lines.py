"""Writes a maintenance act in a few short lines: what its proof shows, or what its plan says as long as there is none.

Each kind of act has words of its own. A record without the figures that they need is written fact by fact instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.warehouse.actions import DRILLS
from plugins.operations_board.presentation import (
    capital,
    facts,
    plural,
    share,
    short_duration,
    short_size,
    split_proof,
    value_text,
    words,
)
from plugins.operations_board.warehouse import Row

MOST_LINES = 4
_LONGEST_LINE = 60

Words = Callable[[Row], list[str]]
"""Writes the lines of one kind of act; may raise for a record of another form."""


def action_summary(action: Row) -> list[str]:
    """Write an action in at most four short lines, the most important first."""
    known = _PROOFS if action["proof"] else _PLANS
    lines: list[str] = []
    if write := known.get(action["kind"]):
        try:
            lines = write(action)
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ZeroDivisionError,
        ):  # written by another version of the act
            lines = []
    return (lines or _by_fact(action))[:MOST_LINES]


def _by_fact(action: Row) -> list[str]:
    pairs, others = split_proof(action["proof"])
    changed = [pair for pair in pairs if pair[1] != pair[2]] or pairs
    lines = [f"{name}: {before} → {after}" for name, before, after in changed]
    if not lines:
        lines = [f"{name}: {text}" for name, text in (others or facts(action["plan"])) if len(text) <= _LONGEST_LINE]
    return lines[:3]


def _change(label: str, before: Any, after: Any, write: Callable[[Any], str] = value_text) -> list[str]:
    """One line for a figure that changed; none for one that did not or that is not known."""
    if before is None or after is None or write(before) == write(after):
        return []
    return [f"{label}: {write(before)} → {write(after)}"]


# ------------------------------------------------------------------------------------------------------- tables
def _table(action: Row) -> list[str]:
    before, after = action["proof"]["before"], action["proof"]["after"]
    lines = _change("Dead rows", before["dead_rows"], after["dead_rows"])
    lines += _change("Dead TOAST rows", before.get("toast_dead_rows"), after.get("toast_dead_rows"))
    lines += _change("Age in transactions", before.get("transaction_age"), after.get("transaction_age"))
    lines += _change("Age in multixacts", before.get("multixact_age"), after.get("multixact_age"))
    lines += _change("Rows changed since analyze", before.get("changed_rows"), after.get("changed_rows"))
    lines += _change("Size", before.get("size_bytes"), after.get("size_bytes"), short_size)
    return lines


def _vacuum(action: Row) -> list[str]:
    proof = action["proof"]
    if "tables" not in proof:
        return _table(action)
    states: dict[str, list[str]] = proof["tables"]
    done = len(states.get("proven", []))
    lines = [
        ", ".join(
            [f"{plural(done, 'table')} maintained"]
            + [f"{len(names)} {words(state).lower()}" for state, names in states.items() if state != "proven"]
        )
    ]
    lines += [f"{value_text(proof['dead_rows_removed'])} dead rows removed"]
    lines += [f"{short_size(proof['bytes_returned'])} returned to the disk"] if proof["bytes_returned"] > 0 else []
    before, after = proof["before"], proof["after"]
    changed = _change("Database's age in transactions", before["transaction_age"], after["transaction_age"])
    return lines + (changed or [f"Database's age: {value_text(after['transaction_age'])} transactions"])


def _vacuum_plan(action: Row) -> list[str]:
    plan = action["plan"]
    if "due" in plan:
        lines = [
            f"{plural(len(plan['due']), 'table')} due",
            f"Expected to take {short_duration(plan['expected_seconds'])}",
        ]
        left = plan["expected_not_to_fit"]
        return lines + ([f"{plural(len(left), 'table')} expected not to fit in the window"] if left else [])
    work = [name for name in ("vacuum", "freeze", "analyze") if plan[name]]
    lines = [capital(" and ".join(work))] if work else []
    lines += [f"Expected to take {short_duration(plan['expected_seconds'])}"]
    lines += [f"{value_text(plan['before']['dead_rows'])} dead rows"] if plan.get("before") else []
    return lines


def _prune(action: Row) -> list[str]:
    proof, plan = action["proof"], action["plan"]
    archived, files = proof["rows_archived"], proof["archives"]
    lines = [f"{plural(archived, 'row')} archived in {plural(files, 'file')}, read back and deleted"]
    if proof.get("rows_of_partitions"):
        lines += [f"{value_text(proof['rows_of_partitions'])} of them left with their whole partitions"]
    about = "" if proof.get("rows_older_before_is_exact", True) else "about "
    keep = f"Older than {plan['keep_days']} days" if "keep_days" in plan else "Past their retention"
    lines += [f"{keep}: {about}{value_text(proof['rows_older_before'])} → {value_text(proof['rows_older_after'])}"]
    if proof.get("rows_held"):
        lines += [f"{plural(proof['rows_held'], 'row')} kept under a legal hold"]
    if proof.get("transactions"):
        longest = short_duration(proof["longest_transaction_milliseconds"] / 1000)
        lines += [f"{plural(proof['transactions'], 'transaction')}, the longest took {longest}"]
    return lines


def _prune_plan(action: Row) -> list[str]:
    plan = action["plan"]
    about = "" if plan["rows_older_is_exact"] else "about "
    lines = [f"{about}{value_text(plan['rows_older'])} rows older than {plan['keep_days']} days".capitalize()]
    if plan["rows_held"]:
        lines += [f"{plural(plan['rows_held'], 'row')} of them under a legal hold"]
    if plan.get("partitions"):
        lines += [f"{plural(len(plan['partitions']), 'whole partition')} to archive and drop"]
    return lines


def _reindex(action: Row) -> list[str]:
    before, after = action["proof"]["before"], action["proof"]["after"]
    lines = [f"Size: {short_size(before['size_bytes'])} → {short_size(after['size_bytes'])}"]
    lines += _change("Wasted", before.get("wasted_bytes"), after.get("wasted_bytes"), short_size)
    returned = action["proof"]["bytes_returned"]
    if returned > 0:
        lines += [f"{short_size(returned)} returned, {share(returned / before['size_bytes'])} of it"]
    lines += _change("Valid", before.get("valid"), after.get("valid"))
    return lines


def _reindex_plan(action: Row) -> list[str]:
    plan = action["plan"]
    lines = [f"Size: {short_size(plan['before']['size_bytes'])}"]
    if plan.get("wasted_bytes") is not None:
        lines += [f"Wasted: {short_size(plan['wasted_bytes'])}"]
    return lines + ([plan["answer"]] if plan.get("answer") else [])


# --------------------------------------------------------------------------------------------------------- logs
def _rotate_logs(action: Row) -> list[str]:
    proof, applied = action["proof"], action["applied"] or {}
    if "rotated" in proof:  # logrotate
        lines = [f"{name} became {to}" for name, to in proof["rotated"].items()][:2]
        more = len(proof["rotated"]) - len(lines)
        lines += [f"{plural(more, 'more file')} rotated"] if more > 0 else []
        lines += [f"{plural(len(proof['removed']), 'old file')} removed"] if proof.get("removed") else []
        return lines
    if "acts" in proof:  # the run as a whole
        return [f"{words(state)}: {plural(count, 'act')}" for state, count in proof["acts"].items()]
    to = applied["to"]
    if "equal_byte_for_byte" in proof:
        before, after = proof["bytes_before"], proof["bytes_after"]
        return [
            f"Compressed to {to}: {short_size(before)} → {short_size(after)}",
            f"Every one of {plural(proof['lines'], 'line')} kept",
        ]
    kept = f"all its {plural(proof['lines'], 'line')}, " if "lines" in proof else ""  # else counted when compressed
    lines = [f"Renamed to {to} with {kept}{short_size(proof['bytes_after'])}"]
    return [*lines, "A new log has begun" if proof["writer_reopened"] else "No new log was begun yet"]


def _delete_logs(action: Row) -> list[str]:
    days = action["plan"].get("days") or []
    held = [f"Held {days[0]} to {days[-1]}" if len(days) > 1 else f"Held {days[0]}"] if days else []
    return [f"{short_size(action['applied']['bytes_freed'])} freed", *held]


# -------------------------------------------------------------------------------------------- cache and Airflow
def _cache(action: Row) -> list[str]:
    proof = action["proof"]
    since, keys, after = proof["since_last"], proof["keys"], proof["after"]
    if since["hits"] is None or since["misses"] is None:  # a relative of Redis, or a service
        lines = ["This server tells no hits and misses"]
    else:
        requests = since["hits"] + since["misses"]
        rate = f"Hit rate {share(since['hit_rate'])} of {plural(requests, 'request')}" if requests else "No requests"
        lines = [f"{rate} since {since['since']}"]
    lines += [f"{value_text(keys['without_expiry'])} of {plural(keys['visited'], 'key')} never expire"]
    swept = proof["sweep"]["expired_keys"]
    told = "How many expired keys were swept is not known" if swept is None else f"{plural(swept, 'expired key')} swept"
    lines += [told if since["evicted_keys"] is None else f"{told}, {value_text(since['evicted_keys'])} evicted"]
    most = f" of {short_size(after['maxmemory_bytes'])}" if after.get("maxmemory_bytes") else ""
    return [*lines, f"Memory: {short_size(after['used_memory_bytes'])}{most}"]


def _airflow_database(action: Row) -> list[str]:
    before, after = action["proof"]["rows_due_before"], action["proof"]["rows_due_after"]
    lines = [f"Old rows: {_counted(before)} → {_counted(after)}"]
    if before is None or after is None:
        return lines
    largest = sorted(((rows, name) for name, rows in before.items() if rows), reverse=True)[:2]
    return lines + [f"{name}: {value_text(rows)} → {value_text(after.get(name, 0))}" for rows, name in largest]


def _airflow_database_plan(action: Row) -> list[str]:
    return [f"Old rows: {_counted(action['plan']['rows_due'])}"]


def _counted(rows: dict[str, int] | None) -> str:
    return "not counted in time" if rows is None else value_text(sum(rows.values()))


def _airflow_logs(action: Row) -> list[str]:
    proof = action["proof"]
    lines = _change("Files", proof["files_before"], proof["files_after"])
    lines += [f"{short_size(action['applied']['bytes_freed'])} freed, {short_size(proof['bytes_after'])} kept"]
    if proof["kept_because_written_to"]:
        lines += [f"{plural(proof['kept_because_written_to'], 'file')} kept: still written to"]
    return lines


def _airflow_logs_plan(action: Row) -> list[str]:
    plan = action["plan"]
    return [f"{plural(plan['files'], 'old file')}, {short_size(plan['bytes'])}"]


_LEFTOVERS = {
    "findings": "Old findings", "snapshots": "Old snapshots", "definitions": "Old definitions",
    "folders": "Folders of killed tasks",
}  # fmt: skip


def _leftovers(action: Row) -> list[str]:
    applied = action["applied"] | {"folders": len(action["applied"]["folders"])}
    return [f"{label} removed: {value_text(applied[name])}" for name, label in _LEFTOVERS.items() if applied[name]]


def _drill(action: Row) -> list[str]:
    proof, plan = action["proof"], action["plan"]
    measured = (("Brought back in", "rto_seconds"), ("Would lose", "rpo_seconds"))
    lines = [_beside_target(label, proof[name], plan[f"{name.removesuffix('_seconds')}_target_seconds"])
             for label, name in measured if proof[name] is not None]  # fmt: skip
    return [*lines, f"{plural(proof['stages']['passed'], 'stage')} passed"]


def _beside_target(label: str, seconds: float, target: float | None) -> str:
    return f"{label} {short_duration(seconds)}" + (f", the target is {short_duration(target)}" if target else "")


_PROOFS: dict[str, Words] = {
    "vacuum": _vacuum, "analyze": _table, "prune": _prune, "reindex": _reindex, "rotate_logs": _rotate_logs,
    "delete_logs": _delete_logs, "cache_statistics": _cache, "clean_airflow_database": _airflow_database,
    "delete_airflow_logs": _airflow_logs, "remove_leftovers": _leftovers, **dict.fromkeys(DRILLS, _drill),
}  # fmt: skip
_PLANS: dict[str, Words] = {
    "vacuum": _vacuum_plan, "analyze": _vacuum_plan, "prune": _prune_plan, "reindex": _reindex_plan,
    "clean_airflow_database": _airflow_database_plan, "delete_airflow_logs": _airflow_logs_plan,
}  # fmt: skip
