"""Reports the tables that the nightly vacuum does not get done: it may not, or they never fit in its window.

Such a table is no failure of a night, because autovacuum looks after it as well, but somebody has to know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from include.maintenance import postponed
from include.maintenance.postgres import vacuum_plan
from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import actions, findings
from include.warehouse.actions import Action
from include.warehouse.findings import Finding

CHECK = "tables_not_maintained"
_RUNS = 3  # postponed by so many in a row it is no matter of one night


def report(whole: Action, tables: Sequence[Action]) -> list[str]:
    """Write the findings of a run by its plan as a whole and its acts; return the tables that never fit.

    A plan without a list of tables leaves an unknown. Raises ConfigurationError or SourceUnavailable.
    """
    if "due" not in whole.plan:
        unknown = Finding("all tables", Outcome.UNKNOWN, f"the tables could not be listed: {whole.reason}")
        findings.replace(whole.run_id, CHECK, [unknown])
        return []
    late = _too_long(whole, tables)
    forbidden = [_forbidden(name, remedy) for name, remedy in (whole.plan.get("not_allowed") or {}).items()]
    found = forbidden + [one for one in late if one.resource not in {other.resource for other in forbidden}]
    if role := whole.plan.get("blind_role"):
        found.append(_blind(role))
    looked_at = {"looked_at": whole.plan.get("looked_at")}
    all_well = Finding("all tables", Outcome.OK, "every table that needs work gets it within the window", looked_at)
    findings.replace(whole.run_id, CHECK, found or [all_well])
    return [one.resource for one in late]


def _forbidden(name: str, remedy: str) -> Finding:
    return Finding(
        name,
        Outcome.WARNING,
        f"{name} is due, but the role of {database.MAINTENANCE} may not maintain it: {remedy}",
        remedy=f"-- {database.in_comment(remedy)}\n"
        "-- or leave it to autovacuum: name it under maintenance.vacuum.exclude",
    )


def _blind(role: str) -> Finding:
    return Finding(
        f"role {role}",
        Outcome.UNKNOWN,
        f"the role {role} may not see what other sessions do and since when: who keeps dead rows is known in part only",
        remedy=f"GRANT pg_monitor TO {role};",
    )


def _too_long(whole: Action, tables: Sequence[Action]) -> list[Finding]:
    """The tables that are expected to take longer than the whole window, or were postponed run after run."""
    window = max(60 * settings().maintenance.vacuum.window_minutes, whole.plan.get("window_seconds") or 0.0)
    late = [action for action in tables if action.state == "postponed"]
    earlier = actions.recent(vacuum_plan.KINDS, [action.resource for action in late], _RUNS) if late else []
    found = []
    for action in late:
        own = [one for one in earlier if (one.kind, one.resource) == (action.kind, action.resource)]
        in_a_row, runs = postponed.in_a_row(own)
        expected = float(action.plan.get("expected_seconds") or 0.0)
        if expected > window:
            why = f"is expected to take {expected / 60:,.0f} minutes, and the whole window is {window / 60:,.0f}"
        elif in_a_row == _RUNS:
            why = f"was postponed by {runs}, now because {action.reason}"
        else:
            continue
        evidence: dict[str, Any] = {"expected_seconds": expected, "window_seconds": window}
        evidence["size_bytes"] = (action.plan.get("facts") or {}).get("size_bytes")
        summary = f"{action.resource}: its {action.kind} {why}"
        found.append(Finding(action.resource, Outcome.WARNING, summary, evidence, _by_hand(action, expected, window)))
    return found


def _by_hand(action: Action, expected: float, window: float) -> str:
    work = "VACUUM (ANALYZE)" if action.kind == "vacuum" else "ANALYZE"
    minutes = math.ceil(expected / 60)
    longer = f"at least {minutes}" if expected > window else f"more than {window / 60:,.0f}"
    other = f"; or a window_minutes of {longer}" if minutes <= vacuum_plan.LONGEST_WINDOW_MINUTES else ""
    return f"{work} {action.resource};  -- by hand, at a quiet time{other}"
