"""A day's subject is replaced as a whole, never by something poorer, and the same values have the same hash."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.outcome import Completeness, ConfigurationError, SourceUnavailable
from include.warehouse import metrics
from include.warehouse.metrics import NEVER_COMPUTED, SUBJECT_TABLES, TableRows, canonical, content_hash

DAY = date(2026, 10, 3)
OTHER = date(2026, 10, 4)
OUTCOMES = ("outcome", "transactions", "value_usd")
REVENUE = ("kind", "fees", "amount_usd")


def rows(count: int, value: str = "10.50") -> dict[str, TableRows]:
    return {
        "daily_transactions": TableRows(OUTCOMES, [("created", count, Decimal(value)), ("failed", 0, Decimal(0))]),
        "daily_revenue": TableRows(REVENUE, [("escrow", count, Decimal("1.10"))]),
    }


def write(
    tables: dict[str, TableRows],
    *,
    day: date = DAY,
    subject: str = "transactions",
    completeness: str = "1",
    state: Completeness = Completeness.COMPLETE,
    reason: str = "",
    detail: dict[str, Any] | None = None,
    run_id: str = "run",
    is_correction: bool = False,
) -> bool:
    return metrics.replace_day(
        day, subject, tables, state=state, completeness=Decimal(completeness), reason=reason, detail=detail or {},
        run_id=run_id, is_correction=is_correction,
    )  # fmt: skip


def stored(warehouse: psycopg.Connection[Any], day: date = DAY) -> list[tuple[Any, ...]]:
    return warehouse.execute(
        "SELECT outcome, transactions, value_usd FROM ops.daily_transactions WHERE day = %s"
        " UNION ALL SELECT kind, fees, amount_usd FROM ops.daily_revenue WHERE day = %s ORDER BY 1",
        (day, day),
    ).fetchall()


def log(warehouse: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return warehouse.execute("SELECT run_id, changed, content_hash FROM ops.metric_write ORDER BY 1").fetchall()


def test_rows_are_replaced_and_other_days_stay(warehouse: psycopg.Connection[Any]) -> None:
    assert write(rows(3)) is True
    assert write(rows(8), day=OTHER) is True
    assert write({"daily_transactions": TableRows(OUTCOMES, [("created", 5, Decimal(7))])}) is True
    assert stored(warehouse) == [("created", 5, Decimal("7.00"))]  # the table that was left out is empty
    assert len(stored(warehouse, OTHER)) == 3


def test_the_same_content_changes_nothing(warehouse: psycopg.Connection[Any]) -> None:
    assert write(rows(3), run_id="1", detail={"files": ["a"], "lines": 3}) is True
    turned = {name: TableRows(table.columns, table.rows[::-1]) for name, table in reversed(rows(3, "10.5").items())}
    assert write(turned, run_id="2", detail={"lines": 3, "files": ["a"]}) is False
    found = log(warehouse)
    assert [entry[:2] for entry in found] == [("1", True), ("2", False)]
    assert found[0][2] == found[1][2]


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "a day of testing"},
        {"detail": {"lines": 4}},
        {"state": Completeness.PARTIAL},
    ],
)
def test_what_is_said_of_the_rows_is_content_too(warehouse: psycopg.Connection[Any], change: dict[str, Any]) -> None:
    write(rows(3))
    assert write(rows(3), **change) is True


def test_known_figures_are_not_replaced_by_poorer_ones(
    warehouse: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(rows(3), completeness="0.9", state=Completeness.PARTIAL, reason="one hour was missing", run_id="1")
    missing = {"completeness": "0", "state": Completeness.MISSING, "reason": "the source has expired"}
    assert write({}, run_id="2", **missing) is False  # type: ignore[arg-type]
    assert caplog.messages == [
        "transactions of 2026-10-03: only 0.00000 of the source is left and the known figures rest on 0.90000 of it, "
        "so they stay (the source has expired)"
    ]
    assert len(stored(warehouse)) == 3
    state = metrics.subject_states([DAY])[DAY]["transactions"]
    assert (state.state, state.reason) == (Completeness.PARTIAL, "one hour was missing")
    assert [entry[1:] for entry in log(warehouse)] == [(True, state.content_hash), (False, state.content_hash)]
    assert write(rows(4), completeness="0.9", state=Completeness.PARTIAL, run_id="3") is True  # as good: the newer one
    assert write(rows(5), run_id="4") is True  # better


def test_a_correction_may_rest_on_less(warehouse: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture) -> None:
    write(rows(3))
    assert write(rows(4), completeness="0.98", state=Completeness.PARTIAL, reason="a fee", is_correction=True) is True
    assert stored(warehouse)[0][1] == 4
    assert caplog.messages == []


def test_a_run_that_left_a_day_as_it_was_stands_in_the_log(warehouse: psycopg.Connection[Any]) -> None:
    metrics.keep_day(DAY, "transactions", "nothing to keep")
    write(rows(3), run_id="1")
    metrics.keep_day(DAY, "transactions", "2")
    digest = metrics.subject_states([DAY])[DAY]["transactions"].content_hash
    assert log(warehouse) == [("1", True, digest), ("2", False, digest)]


def test_an_amended_day_keeps_its_rows(warehouse: psycopg.Connection[Any]) -> None:
    def amend(run_id: str, lines: int = 2) -> bool:
        share = Decimal(10) / (10 + lines)
        return metrics.amend_day(
            DAY, "transactions", completeness=share, reason=f"{lines} lost", detail={"lost": lines}, run_id=run_id
        )

    assert amend("0") is False, "there is nothing to amend"
    assert write(rows(3), run_id="1") is True
    before = stored(warehouse)
    assert [amend("2"), amend("3"), amend("4", 10)] == [True, False, True]
    assert stored(warehouse) == before
    state = metrics.subject_states([DAY])[DAY]["transactions"]
    assert state[:4] == (Completeness.PARTIAL, Decimal("0.5"), "10 lost", {"lost": 10})
    assert [entry[1] for entry in log(warehouse)] == [True, True, False, True]
    assert len({entry[2] for entry in log(warehouse)}) == 3
    assert write(rows(3), run_id="5") is True, "the whole source is there again"
    assert log(warehouse)[-1][2] == log(warehouse)[0][2]


def test_a_share_just_below_one_is_never_rounded_up_to_it(warehouse: psycopg.Connection[Any]) -> None:
    write(rows(1), completeness="0.999999", state=Completeness.PARTIAL)
    assert metrics.subject_states([DAY])[DAY]["transactions"].completeness == Decimal("0.99999")


def test_a_write_that_fails_leaves_everything_as_it_was(warehouse: psycopg.Connection[Any]) -> None:
    write(rows(3))
    before = stored(warehouse)
    broken = rows(9)
    broken["daily_revenue"].rows.append(("escrow", 1, Decimal(1)))  # the same key twice
    with pytest.raises(psycopg.errors.UniqueViolation):
        write(broken)
    assert stored(warehouse) == before
    assert len(log(warehouse)) == 1


def test_runs_at_the_same_time_wait_for_each_other(warehouse: psycopg.Connection[Any]) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda count=count: results.append(write(rows(count)))) for count in (1, 2, 1, 2, 1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(stored(warehouse)) == 3
    assert len(log(warehouse)) == 6


@pytest.mark.parametrize(
    ("subject", "tables", "named"),
    [
        ("weather", {}, "weather is not a subject"),
        ("users", {"daily_revenue": TableRows(REVENUE, [])}, "daily_revenue is not a table of the subject users"),
        ("transactions", {"daily_revenue": TableRows(("day", *REVENUE), [])}, "the column day"),
        ("transactions", {"daily_revenue": TableRows(REVENUE, [("escrow", 1)])}, "another number of values"),
    ],
)
def test_wrong_tables_are_refused(
    warehouse: psycopg.Connection[Any], subject: str, tables: dict[str, TableRows], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        write(tables, subject=subject)
    assert log(warehouse) == []


@pytest.mark.parametrize("share", ["-0.1", "1.00001"])
def test_a_share_out_of_range_is_refused(share: str) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        write(rows(1), completeness=share)


def test_every_subject_has_its_tables_in_the_warehouse(warehouse: psycopg.Connection[Any]) -> None:
    found = warehouse.execute(
        "SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_name)"
        " WHERE c.table_schema = 'ops' AND t.table_schema = 'ops' AND c.column_name = 'day'"
        " AND (c.table_name LIKE 'daily%' OR c.table_name LIKE 'hourly%')"
    )
    named = {table for tables in SUBJECT_TABLES.values() for table in tables}
    assert named == {name for (name,) in found} - {"daily_subject"}


def test_states_of_days_and_what_was_never_computed(warehouse: psycopg.Connection[Any]) -> None:
    write(rows(3), detail={"share": Decimal("0.50"), "day": DAY})
    states = metrics.subject_states([DAY, OTHER])
    assert states[DAY]["transactions"].detail == {"share": "0.50", "day": "2026-10-03"}
    assert states[DAY]["users"] == states[OTHER]["transactions"] == NEVER_COMPUTED
    assert (NEVER_COMPUTED.state, set(states[OTHER])) == (Completeness.MISSING, set(SUBJECT_TABLES))


def test_errors_tell_what_to_do(warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch) -> None:
    warehouse.execute("REVOKE INSERT ON ops.daily_revenue FROM warehouse_writer")
    with pytest.raises(ConfigurationError, match="daily_revenue"):
        write(rows(1))
    warehouse.execute("DROP TABLE ops.daily_revenue")
    with pytest.raises(ConfigurationError, match=r"not migrated .*; run python -m include\.warehouse migrate"):
        write(rows(1))
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://nobody:secret-word@127.0.0.1:1/nothing")
    with pytest.raises(SourceUnavailable) as caught:
        write(rows(1))
    assert "secret-word" not in str(caught.value)


# --------------------------------------------------------------------------------------------- canonical text
INSTANT = datetime(2026, 10, 3, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (Decimal("1.50"), Decimal("1.5")),
        (Decimal("1.50"), 1.5),
        (Decimal("1E+2"), 100),
        (Decimal("-0.00"), 0),
        (Decimal("1E-7"), Decimal("0.0000001")),
        (b"\x00\xff", memoryview(b"\x00\xff")),
        (INSTANT, INSTANT.astimezone(timezone(timedelta(hours=5, minutes=30)))),
        ([1, "a"], (1, "a")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (TableRows(("a", "b"), [(1, 2), (3, 4)]), TableRows(("b", "a"), [(4, 3), (2, 1)])),
    ],
)
def test_equal_values_have_one_text(one: Any, same: Any) -> None:
    assert canonical(one) == canonical(same)


def test_different_values_have_different_texts() -> None:
    values: list[Any] = [
        None, True, False, 0, 1, 10, 100, Decimal("0.1"), "0", "1", "", "null", "true", b"", b"\x01", "01", DAY,
        INSTANT, INSTANT + timedelta(microseconds=1), datetime(2026, 10, 3, tzinfo=UTC), str(DAY), [], [[]], [""], {},
        {"": ""}, ["a", "b"], ["a,b"], ['a","b'], {"a": "b"}, {"a": {"b": 1}}, TableRows(("a",), []),
        TableRows(("a",), [(1,)]), TableRows(("b",), [(1,)]), TableRows(("a",), [(1,), (1,)]),
        TableRows(("a",), [("1",)]),
        TableRows(("a", "b"), [("x", "y;z")]), TableRows(("a", "b"), [("x;y", "z")]),
    ]  # fmt: skip
    assert len({canonical(value) for value in values}) == len(values)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6), st.integers(0, 8))
def test_zeros_at_the_end_of_a_number_do_not_count(number: Decimal, zeros: int) -> None:
    longer = Decimal(f"{number:f}" + "0" * zeros)
    assert canonical(number) == canonical(longer)
    assert Decimal(canonical(number)) == number


@pytest.mark.parametrize("value", [Decimal("NaN"), float("inf"), datetime(2026, 10, 3)])  # noqa: DTZ001
def test_values_without_a_meaning_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not a finite number|no time zone"):
        canonical(value)
    with pytest.raises(TypeError):
        canonical(object())


def test_the_hash_is_that_of_a_text_written_by_hand() -> None:
    """Stored hashes must stay comparable: the text may change only together with a recomputation of all days."""
    digest = content_hash(rows(3), state=Completeness.COMPLETE, completeness=Decimal(1), reason="", detail={"n": [1]})
    text = (
        '{"completeness":1,"detail":{"n":[1]},"reason":"","state":"complete","tables":{'
        '"daily_revenue":rows(["amount_usd","fees","kind"];1.1,3,"escrow"),'
        '"daily_transactions":rows(["outcome","transactions","value_usd"];"created",3,10.5;"failed",0,0)}}'
    )
    assert digest == hashlib.sha256(text.encode()).hexdigest()
