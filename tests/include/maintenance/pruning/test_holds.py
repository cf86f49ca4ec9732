"""A legal hold keeps its rows, is counted in the proof, and is placed and released by a command."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import free_port
from include.maintenance.__main__ import main
from include.maintenance.logs import log_retention
from include.maintenance.pruning import holds, prune, rows
from include.outcome import ConfigurationError
from include.platform import folders
from include.warehouse import legal_holds
from tests.include.maintenance.pruning.audit_log_rows import ALL, CUT_OFF, NOW, archived, in_table, rule


@pytest.fixture
def filled(any_platform: psycopg.Connection) -> psycopg.Connection:
    """20 rows past their retention, one an hour, by turns of ann and bob; 5 that are not."""
    any_platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action) SELECT %s::timestamptz - n * interval '1 hour',"
        " CASE n %% 2 WHEN 1 THEN 'ann' ELSE 'bob' END, '100%%' FROM generate_series(-4, 20) AS n",
        (CUT_OFF,),
    )
    return any_platform


def _proof(warehouse: psycopg.Connection) -> dict:
    query = "SELECT proof FROM ops.maintenance_action ORDER BY maintenance_action_id DESC LIMIT 1"
    [(proof,)] = warehouse.execute(query).fetchall()
    return dict(proof)


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({"column": "actor", "value": "ann"}, 10),
        ({"column": "action", "value": "100%"}, 20),
        ({"time_from": CUT_OFF - timedelta(hours=3), "time_until": CUT_OFF - timedelta(hours=1)}, 2),
        ({"key_from": "6", "key_to": "8"}, 3),  # the keys 6 to 25 are old
        ({"key_from": "20"}, 6),
        ({"key_to": "9", "column": "actor", "value": "bob"}, 2),
        ({"column": "actor", "value": "nobody"}, 0),
        ({}, 20),
    ],
)
def test_held_rows_stay(filled: psycopg.Connection, warehouse: psycopg.Connection, conditions: dict, kept: int) -> None:
    before = in_table(filled)
    placed = holds.place("public.audit_logs", "case 7", "carol", **conditions)
    done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs WHERE created_at < %s", (CUT_OFF,)).fetchone() == (
        kept,
    )
    assert in_table(filled) + archived(filled, warehouse) == before
    if kept == 20:
        assert (done["state"], done["reason"]) == (
            "nothing_to_do",
            "the 20 rows older than 90 days are all under a legal hold",
        )
    else:
        proof = _proof(warehouse)
        assert (proof["rows_held"], proof["rows_archived"], proof["rows_older_after"]) == (kept, 20 - kept, kept)
    holds.release(placed["legal_hold"], "dave")
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["rows"] == kept
    assert in_table(filled) + archived(filled, warehouse) == before


def test_a_hold_placed_while_rows_are_archived_keeps_them_and_takes_them_out_of_the_archive(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    before = in_table(filled)
    put: Callable[..., None] = folders.Folder.put

    def placed(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        if not holds.listed():
            holds.place("public.audit_logs", "case 7", "carol", column="actor", value="ann")

    environment.setattr(folders.Folder, "put", placed)
    prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    assert filled.execute(f"{ALL} WHERE created_at < %s AND actor = 'bob'", (CUT_OFF,)).fetchall() == []
    kept = archived(filled, warehouse)
    assert in_table(filled) + kept == before
    assert {row[2] for row in kept} == {"bob"}
    assert _proof(warehouse)["rows_held"] == 10


@pytest.mark.parametrize("settled", [True, False])
def test_a_hold_released_while_rows_are_archived_loses_nothing(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
    settled: bool,
) -> None:
    """Also where a transaction older than the rows is open, so that each row is compared by its content."""
    older = psycopg.connect(any_databases.postgres.url(filled.info.dbname))
    if not settled:
        older.execute("SELECT pg_current_xact_id()")
        filled.execute("UPDATE public.audit_logs SET action = action")
    before = in_table(filled)
    hold = holds.place("public.audit_logs", "case 7", "carol", column="actor", value="ann")["legal_hold"]
    put: Callable[..., None] = folders.Folder.put

    def released(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        if holds.listed():
            holds.release(hold, "dave")

    with environment.context() as patch:
        patch.setattr(folders.Folder, "put", released)
        assert prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)["state"] == "proven"
    older.close()
    assert in_table(filled) + archived(filled, warehouse) == before
    prune.prune(rule(), "r2", dry_run=False, now=NOW)
    assert in_table(filled) + archived(filled, warehouse) == before
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (5,)


def test_held_rows_beyond_the_count_hide_no_free_ones(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(rows, "COUNT_LIMIT", 5)
    holds.place("public.audit_logs", "case 7", "carol", key_from="8", key_to="15")
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 12
    proof = _proof(warehouse)
    assert (proof["rows_held"], proof["rows_held_is_exact"]) == (6, False)
    done = prune.prune(rule(), "r2", dry_run=False, now=NOW)
    assert done["reason"] == "the more than 5 rows older than 90 days are all under a legal hold"


def test_a_hold_that_cannot_be_read_is_one_sentence(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    conditions = dict.fromkeys(("time_from", "time_until", "key_to", "column_name", "column_value"))
    legal_holds.place(conditions | {"source_table": "public.audit_logs", "key_from": "seven"}, "case 7", "carol")
    with pytest.raises(ConfigurationError, match="invalid input syntax.*correct the legal hold"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (25,)


def test_the_command(
    filled: psycopg.Connection, warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--table", "public.audit_logs", "--reason", "case 7", "--by", "carol"]
    assert (
        main(["hold", "place", *where, "--column", "actor", "--value", "ann", "--until", "2026-07-05T00:00:00+00:00"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said == {"legal_hold": 1, "table": "public.audit_logs", "reason": "case 7", "rows_matching": 0}
    assert main(["hold", "list"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) | {"created_at": ""} == {
        "legal_hold_id": 1,
        "source_table": "public.audit_logs",
        "time_until": "2026-07-05T00:00:00+00:00",
        "column_name": "actor",
        "column_value": "ann",
        "reason": "case 7",
        "placed_by": "carol",
        "created_at": "",
    }
    assert main(["hold", "release", "1", "--by", "dave"]) == 0
    assert main(["hold", "release", "1", "--by", "dave"]) == 1
    assert "no legal hold 1 is in force" in capsys.readouterr().err
    assert main(["verify-archives", "public.audit_logs"]) == 0
    assert '"manifests": 0' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"column": "detail", "value": "x"}, r"detail is no column that holds .* may name \(actor, action, subject\)"),
        ({"column": "actor"}, "needs both the column and its value"),
        ({"key_from": "seven"}, "keys are not of the type"),
        ({"time_from": NOW, "time_until": NOW}, "time range is empty"),
        ({"reason": " "}, "needs a reason"),
        ({"table": "public.users"}, r"public\.users is not pruned.*; logs are platform_logs, access_logs"),
        ({"table": "error_logs", "key_to": "9"}, "a hold on error_logs keeps whole files by their days"),
    ],
)
def test_wrong_holds_are_one_sentence(filled: psycopg.Connection, conditions: dict, message: str) -> None:
    given = {"table": "public.audit_logs", "reason": "case 7", "placed_by": "carol"} | conditions
    with pytest.raises(ConfigurationError, match=message):
        holds.place(**given)
    assert holds.listed() == []


def test_a_hold_on_logs_names_days(warehouse: psycopg.Connection) -> None:
    first, end = NOW - timedelta(days=3), NOW
    assert holds.place("platform_logs", "case 8", "carol", time_from=first, time_until=end)["rows_matching"] is None
    [hold] = log_retention.Keep.load().holds
    assert (hold.source_table, hold.time_from, hold.time_until) == ("platform_logs", first, end)


def test_a_hold_can_be_placed_while_the_platform_is_down(
    filled: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with environment.context() as patch:
        patch.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", f"postgresql://x:y@127.0.0.1:{free_port()}/z")
        assert holds.place("public.audit_logs", "case 7", "carol")["rows_matching"] is None
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["state"] == "nothing_to_do"


def test_the_writer_may_not_remove_a_hold(filled: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    from include import connections

    holds.place("public.audit_logs", "case 7", "carol")
    with connections.postgres("warehouse") as writer, pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute("DELETE FROM ops.legal_hold")
