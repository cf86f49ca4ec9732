"""A table whose pruning is postponed run after run is told, with what is left; a dry run tells nothing."""

from __future__ import annotations

import psycopg
import pytest

from include.maintenance.pruning import prune
from include.outcome import ConfigurationError, Outcome
from include.warehouse import actions
from tests.include.maintenance.pruning.audit_log_rows import NOW, rule
from tests.recorded_findings import Recorded, latest_findings

TABLE = "public.audit_logs"


def _latest() -> dict[str, Recorded]:
    return {one.finding.resource: one for one in latest_findings("pruning_backlog")}


def test_a_table_that_falls_behind_is_told_until_it_keeps_up(
    filled: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    prune.prune(rule(), "dry", dry_run=True, now=NOW)
    assert _latest() == {}
    for run in ("r1", "r2", "r3"):
        assert prune.prune(rule(longest_minutes=1e-9), run, dry_run=False, now=NOW)["state"] == "postponed"
    found = _latest()[TABLE]
    assert found.finding.outcome is Outcome.WARNING
    assert "its pruning was postponed by the last 3 runs, now because the 1e-09 minutes of" in found.finding.summary
    assert found.finding.evidence == {
        "rows_left": 23,
        "rows_left_is_exact": True,
        "rows_held": 0,
        "rows_of_partitions_left_estimated": 0,
        "postponed_in_a_row": 3,
    }
    assert found.finding.remedy == (
        "-- raise longest_minutes in maintenance.prune, or run daily_maintenance more often"
    )
    assert (found.run_id, found.is_new) == ("r3", False), "it is as old as the first of them"
    prune.prune(rule(), "dry", dry_run=True, now=NOW)
    assert _latest()[TABLE].run_id == "r3"
    assert prune.prune(rule(), "r4", dry_run=False, now=NOW)["state"] == "proven"
    assert _latest()[TABLE].finding.outcome is Outcome.OK
    assert prune.prune(rule(), "r5", dry_run=False, now=NOW)["state"] == "nothing_to_do"
    assert _latest()[TABLE].finding.summary == f"{TABLE}: no row is older than 90 days"


def test_what_failed_is_unknown_and_ends_the_row(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    prune.prune(rule(longest_minutes=1e-9), "r1", dry_run=False, now=NOW)
    with pytest.raises(ConfigurationError):
        prune.prune(rule(key_column="no_such"), "r2", dry_run=False, now=NOW)
    found = _latest()[TABLE].finding
    assert found.outcome is Outcome.UNKNOWN
    assert "its pruning failed: public.audit_logs has no column no_such" in found.summary
    prune.prune(rule(longest_minutes=1e-9), "r3", dry_run=False, now=NOW)
    assert _latest()[TABLE].finding.evidence["postponed_in_a_row"] == 1


def test_pruning_one_table_leaves_the_backlog_of_another_as_it_is(
    filled: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    """public.audit_logs is what the configuration prunes; its act here is one of an earlier release."""
    actions.postpone(actions.plan("prune", TABLE, "r1", dry_run=False, plan={}), "the time was over")
    filled.execute("CREATE TABLE public.other_logs (LIKE public.audit_logs INCLUDING ALL)")
    filled.execute("GRANT SELECT, DELETE ON public.other_logs TO operations_maintainer")
    prune.prune(rule(table="public.other_logs"), "r2", dry_run=False, now=NOW)
    found = _latest()
    assert {name: one.finding.outcome for name, one in found.items()} == {
        TABLE: Outcome.WARNING,
        "public.other_logs": Outcome.OK,
    }
    assert found[TABLE].finding.evidence == {"postponed_in_a_row": 1}, "how many rows are left is absent, not zero"
