"""Which numbers of rows a backup can have of a table that was changed while it was taken; facts of earlier releases."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from include.outcome import ConfigurationError
from include.platform import backup_facts
from include.platform.backup_facts import Bounds, Counters, Facts, Statistics, TableFacts

AT = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)
T = "public.t"


def _facts(before: int, after: int, counters: tuple[int, int] | None, **change: object) -> Facts:
    """Facts of a base backup of one table; ``counters`` are its rows inserted and deleted meanwhile."""
    facts = Facts("base-1", "base", 180000, AT, AT, {}, [], {T: TableFacts(after)}, [], {}, {T: TableFacts(before)})
    if counters is None:
        return facts
    later = replace(Counters(7 + counters[0], 3 + counters[1], 1), **{k: v for k, v in change.items() if k != "reset"})  # type: ignore[arg-type]
    return replace(
        facts,
        statistics_before=Statistics("2026-10-01", {T: Counters(7, 3, 1)}),
        statistics=Statistics(str(change.get("reset", "2026-10-01")), {T: later}),
    )


@pytest.mark.parametrize(
    ("facts", "bounds"),
    [
        (_facts(1000, 905, (5, 100)), Bounds(900, 1005, True)),
        (_facts(1000, 1000, (50, 50)), Bounds(950, 1050, True)),
        (_facts(1000, 1000, (0, 0)), Bounds(1000, 1000, True)),
        (_facts(1000, 1000, None), Bounds(1000, 1000, True)),
        (_facts(1000, 905, None), Bounds(905, 1000, False)),
        (_facts(1000, 905, (5, 10)), Bounds(905, 1000, False)),  # not all told yet
        (_facts(1000, 905, (5, 100), reset="2026-10-04"), Bounds(905, 1000, False)),
        (_facts(1000, 1000, (5, 5), storage=2), Bounds(1000, 1000, False)),  # truncated and filled again
        (_facts(1000, 1000, (0, 0), inserted=1), Bounds(1000, 1000, False)),  # counted anew after a crash
    ],
)
def test_a_backup_has_the_rows_of_any_moment_while_it_was_taken(facts: Facts, bounds: Bounds) -> None:
    assert facts.bounds(T) == bounds
    assert backup_facts.from_json(backup_facts.to_json(facts), "x") == facts


def test_a_dump_has_the_rows_of_its_snapshot() -> None:
    assert replace(_facts(1000, 905, None), tables_before=None).bounds(T) == Bounds(905, 905, True)


def test_counters_that_lag_behind_the_rows_are_late() -> None:
    assert _facts(1000, 905, (5, 10)).statistics_late
    assert not _facts(1000, 905, (5, 100)).statistics_late
    assert not _facts(1000, 905, None).statistics_late, "nothing comes where nothing is counted"


def test_facts_of_the_release_before_are_read() -> None:
    content = json.loads(backup_facts.to_json(_facts(1000, 905, None)))
    for added in ("statistics", "statistics_before", "checksum"):
        del content[added]
    content["version"] = 1
    old = json.dumps(content | {"checksum": backup_facts._seal(content)})
    assert backup_facts.from_json(old, "x") == _facts(1000, 905, None)
    content["version"] = 99
    newer = json.dumps(content | {"checksum": backup_facts._seal(content)})
    with pytest.raises(ConfigurationError, match="written by another release"):
        backup_facts.from_json(newer, "x")
