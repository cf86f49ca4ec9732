"""What findings and drills need of a person: how old they may become, and their lines in the overview's list.

They were found in advance and can wait: on the overview none of them is louder than a warning. A drill that fails is an
incident besides, as its task fails; a finding by itself opens none, not even a critical one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from include.outcome import Outcome
from plugins.operations_board.attention import Item
from plugins.operations_board.presentation import Clock, capital, long_span, words
from plugins.operations_board.warehouse import Row

PAUSES = 6
"""Runs of a check whose pauses tell how often it usually looks."""

RETIRED = timedelta(days=180)
"""A check that was silent this long was switched off on purpose; its own page still says when it looked last."""

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(days=1), timedelta(days=31)
"""Checks run daily, weekly or monthly; one that has run once is given the longest."""

LONG_RUNNING = timedelta(hours=12)
"""The run deadline of drills: one that still runs then was killed or hangs."""

DAGS = {
    "backup_verification": "weekly_backup_verification",
    "full_restoration": "monthly_disaster_recovery",
    "failover": "monthly_disaster_recovery",
    "archive_restoration": "monthly_maintenance",
}
"""The DAG of each kind of drill."""

INTERVALS = {kind: timedelta(days=7 if dag.startswith("weekly_") else 31) for kind, dag in DAGS.items()}
"""How often each kind of drill is due, by the cadence of its DAG; it is overdue after twice as long."""


# ------------------------------------------------------------------------------------------------------- findings
def is_stale(check: Row, now: datetime) -> bool:
    """Whether a check has not looked for more than twice its usual pause, so that what it said may hold no more."""
    usual = LONGEST_PAUSE if check["pause"] is None else min(max(check["pause"], SHORTEST_PAUSE), LONGEST_PAUSE)
    return bool(now - check["found_at"] > 2 * usual)


def expected_checks(checks: Sequence[Row], now: datetime) -> list[Row]:
    """Return the checks that should look, without the retired ones; when all are retired, nothing looks: all of them.

    Each has ``stale`` besides: whether it does not look any more.
    """
    expected = [check for check in checks if now - check["found_at"] < RETIRED] or checks
    return [check | {"stale": is_stale(check, now)} for check in expected]


def of_findings(open_findings: Sequence[Row], checks: Sequence[Row], clock: Clock) -> list[Item]:
    """One item per open finding and per check that does not look any more; one when none looks or ever has."""
    items = [_finding(row) for row in open_findings]
    newest = max((check["found_at"] for check in checks), default=None)
    if newest is None or clock.now - newest >= RETIRED:
        title = "No check has looked yet" if newest is None else "No check looks any more"
        step = "The checks run with the DAGs daily, weekly and monthly_maintenance: are they paused?"
        return [Item(Outcome.UNKNOWN, title, newest, step, "findings", can_wait=True), *items]
    for check in expected_checks(checks, clock.now):
        if check["stale"]:
            silent = clock.now - check["found_at"]
            items.append(
                Item(
                    Outcome.UNKNOWN,
                    f"The check {words(check['check_name']).lower()} has not looked for {long_span(silent)}",
                    check["found_at"],
                    "What it said may not hold any more. Look at the newest runs of its maintenance DAG.",
                    f"findings?check={check['check_name']}&outcome=all",
                    badge="overdue",
                    can_wait=True,
                )
            )
    return items


def _finding(row: Row) -> Item:
    unknown = row["outcome"] == "unknown"
    step = "Find out why it could not be checked." if unknown else "Judge whether it is to be changed."
    if row["has_remedy"]:
        step = "The finding has the remedy ready to copy."
    return Item(
        Outcome.UNKNOWN if unknown else Outcome.WARNING,
        f"{words(row['check_name'])}: {row['resource']}",
        row["first_found_at"],
        f"{_sentence(row['summary'])} {step}",
        f"findings/{row['finding_id']}",
        "new" if row["is_new"] else "",
        badge=row["outcome"],
        can_wait=True,
    )


# --------------------------------------------------------------------------------------------------------- drills
def drill_name(kind: str, resource: str) -> str:
    """Write which drill it is, for example "Backup verification of nightly"."""
    return f"{words(kind)} of {resource}"


def state_of(drill: Row, clock: Clock) -> str:
    """Return a drill's outcome, or ``overdue`` when the newest one passed too long ago to count.

    One that runs for longer than ``LONG_RUNNING`` is ``could_not_run``: its task was killed or hangs.
    """
    if drill["outcome"] == "running" and clock.now - drill["started_at"] > LONG_RUNNING:
        return "could_not_run"
    counts = drill["outcome"] in ("passed", "running") and drill["passed_at"] is not None
    return "overdue" if counts and not _holds(drill, clock) else str(drill["outcome"])


def _holds(drill: Row, clock: Clock) -> bool:
    """Whether a drill of its kind and resource passed lately enough to count."""
    passed_at, usual = drill["passed_at"], INTERVALS.get(drill["kind"], LONGEST_PAUSE)
    return passed_at is not None and bool(clock.now - passed_at <= 2 * usual)


def of_drills(drills: Sequence[Row], sources: Iterable[str], clock: Clock) -> list[Item]:
    """Items for drills that failed, could not run or are overdue, and one for those of ``sources`` never tried.

    Drills of a backup source that is not configured any more are not expected to go on, nor is a failover of a source
    with another way of committing than the one that is rehearsed now.
    """
    wanted = list(sources)
    rehearsed = {(drill["kind"], source_of(drill)) for drill in drills if _holds(drill, clock)}
    items = []
    for drill in drills:
        source = source_of(drill)
        if drill["kind"] != "archive_restoration" and source not in wanted:
            continue
        if state_of(drill, clock) == "overdue" and (drill["kind"], source) in rehearsed:
            continue
        if item := _drill(drill, clock):
            items.append(item)
    if never := never_tried(drills, wanted):
        names = ", ".join(dict.fromkeys(words(kind).lower() for kind, _ in never))
        dags = " and ".join(dict.fromkeys(DAGS[kind] for kind, _ in never))
        sources_named = ", ".join(dict.fromkeys(source for _, source in never))
        step = f"Whether the backups can be used is not known. Trigger {dags} or wait for the first run."
        title = f"Never tried of {sources_named}: {names}"
        items.append(Item(Outcome.UNKNOWN, title, None, step, "drills", badge="never", can_wait=True))
    return items


def never_tried(drills: Sequence[Row], sources: Iterable[str]) -> list[tuple[str, str]]:
    """Return kind and source of the drills that should be there and were never begun."""
    tried = {(drill["kind"], source_of(drill)) for drill in drills}
    kinds = ("backup_verification", "full_restoration", "failover")
    return [(kind, source) for source in sources for kind in kinds if (kind, source) not in tried]


def source_of(drill: Row) -> str:
    """Return the backup source of a drill; a failover's resource names how it commits after a comma."""
    return str(drill["resource"]).partition(", ")[0]


def _drill(drill: Row, clock: Clock) -> Item | None:
    state = state_of(drill, clock)
    name, reason = drill_name(drill["kind"], drill["resource"]), _sentence(drill["reason"])
    passed = f"It passed last {clock.ago(drill['passed_at'])}." if drill["passed_at"] else "It has never passed."
    link, again = (
        f"drills/{drill['drill_id']}",
        f"{passed} Mend that and clear the task of {DAGS.get(drill['kind'], '')}.",
    )
    if state == "failed":
        return Item(
            Outcome.WARNING, f"{name} failed", drill["finished_at"], f"{reason} {again}", link, badge="failed",
            can_wait=True,
        )  # fmt: skip
    if state == "could_not_run" and drill["outcome"] == "running":
        step = f"Its task was killed or hangs. {passed} Look at its run, then clear the task."
        title = f"{name} began and never ended"
        return Item(Outcome.UNKNOWN, title, drill["started_at"], step, link, badge="could_not_run", can_wait=True)
    if state == "could_not_run":
        return Item(
            Outcome.UNKNOWN, f"{name} could not run", drill["finished_at"], f"{reason} {again}", link,
            badge="could_not_run", can_wait=True,
        )  # fmt: skip
    if state == "overdue":
        title = f"{name} has not passed for {long_span(clock.now - drill['passed_at'])}"
        step = f"Look at the newest runs of the DAG {DAGS[drill['kind']]}: is it paused?"
        return Item(Outcome.UNKNOWN, title, drill["passed_at"], step, link, badge="overdue", can_wait=True)
    return None


def judged(measured: Row) -> dict[str, str]:
    """Say of loss and recovery of a drill whether they meet their targets: met, missed, or unknown without a figure."""
    found = {}
    for name in ("rpo", "rto"):
        value, target = measured[f"{name}_seconds"], measured[f"{name}_target_seconds"]
        found[name] = "" if target is None else "unknown" if value is None else "met" if value <= target else "missed"
    return found


def _sentence(text: str) -> str:
    return f"{capital(text).rstrip('.')}." if text else ""
