"""Bloated indexes are rebuilt after approval, one by one, and an interrupted rebuilding ends clean."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import bloat, reindex
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import database
from include.settings import settings
from include.warehouse import actions, findings
from tests.old_postgres import flush_statistics

NAME = 'public."I"'
LEFT = 'public."I_ccnew"'
CANDIDATE = {"index": NAME, "size_bytes": 458752, "wasted_bytes": 400000, "needs_approval": False}


@pytest.fixture
def bloated(any_platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """An index of 56 pages whose entries fill 6 of them."""
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__BLOAT_MINIMUM_BYTES", "65536")
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WAIT_SECONDS", "10")
    settings.cache_clear()
    any_platform.execute("CREATE TABLE t (id bigint NOT NULL) WITH (autovacuum_enabled = off)")
    any_platform.execute("INSERT INTO t SELECT generate_series(1, 20000)")
    any_platform.execute('CREATE INDEX "I" ON t (id); GRANT SELECT ON t TO operations_maintainer')
    any_platform.execute("DELETE FROM t WHERE id % 10 <> 0")
    any_platform.execute("VACUUM (ANALYZE, TRUNCATE off) t")
    yield any_platform
    settings.cache_clear()


@pytest.fixture
def owned(bloated: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    """The same; maintenance may do what the owner may, and so drop what is left."""
    url = any_databases.url(bloated.info.dbname, "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", url)
    return bloated


def _acts(warehouse: psycopg.Connection) -> list[tuple[Any, ...]]:
    return warehouse.execute(
        "SELECT resource, state, reason FROM ops.maintenance_action WHERE kind = 'reindex' ORDER BY 1, run_id"
    ).fetchall()


def _indexes(connection: psycopg.Connection) -> list[tuple[str, bool]]:
    return connection.execute(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1"
    ).fetchall()


def _rebuild(run_id: str = "r1", **more: Any) -> dict[str, Any]:
    return reindex.rebuild(CANDIDATE, run_id, False, **more)


# ----------------------------------------------------------------------------------------------------- choosing
def test_measured_bloat_is_rebuilt_and_proven(bloated: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    bloat.review("r1")
    [chosen] = reindex.candidates("r1", False)
    assert chosen["index"] == NAME
    assert not chosen["needs_approval"]
    done = reindex.rebuild(chosen, "r1", False)
    assert done["state"] == "proven"
    action = actions.find("reindex", NAME, "r1")
    assert action is not None
    assert action.proof is not None
    before, after = action.proof["before"], action.proof["after"]
    assert before["size_bytes"] == chosen["size_bytes"]
    assert after["size_bytes"] == 8 * 8192, "the meta page, the root and ceil(2000 / 366) leaves"
    assert action.proof["bytes_returned"] == before["size_bytes"] - after["size_bytes"]
    assert after["valid"]
    assert before["oid"] != after["oid"]
    assert after["leaf_density_percent"] > 80
    assert action.applied == {"statement": 'REINDEX INDEX CONCURRENTLY "public"."I"'}
    assert _indexes(bloated) == [('"I"', True)]
    assert reindex.rebuild(chosen, "r1", False) == done, "a repeated task changes nothing"
    bloat.review("r2")
    assert reindex.candidates("r2", False) == []
    assert _acts(warehouse) == [("all indexes", "nothing_to_do", "no index is bloated"), (NAME, "proven", "")]


def test_what_is_chosen(bloated: psycopg.Connection, environment: pytest.MonkeyPatch, any_databases: Databases) -> None:
    bloated.execute("INSERT INTO t SELECT generate_series(20001, 40000)")
    bloated.execute('CREATE INDEX "J" ON t ((id + 0)); CREATE INDEX "K" ON t (id, (id % 7))')
    bloated.execute("DELETE FROM t WHERE id % 10 <> 0")
    bloated.execute("VACUUM (ANALYZE, TRUNCATE off) t")
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WITHOUT_APPROVAL_UP_TO_BYTES", "500000")
    settings.cache_clear()
    bloat.review("r1")
    chosen = reindex.candidates("r1", False)
    wasted = [one["wasted_bytes"] for one in chosen]
    assert len(chosen) == 3
    assert wasted == sorted(wasted, reverse=True), "the most wasteful first"
    assert [one["needs_approval"] for one in chosen] == [one["size_bytes"] > 500000 for one in chosen]
    assert reindex.candidates("r1", False, 1) == chosen[:1]
    assert reindex.candidates("r1", False, 0) == []
    found = actions.find("reindex", "all indexes", "r1")
    assert found is not None
    assert found.reason == "the run may rebuild no index (most_indexes is 0)"
    with psycopg.connect(any_databases.postgres.url(bloated.info.dbname), autocommit=True) as superuser:
        superuser.execute("DROP EXTENSION pgstattuple")
    bloat.review("r2")
    assert reindex.candidates("r2", False) == []
    found = actions.find("reindex", "all indexes", "r2")
    assert found is not None
    assert found.reason == "bloat is estimated only; it is rebuilt once pgstattuple has measured it"
    bloated.execute("DROP TABLE t; CREATE TABLE t AS SELECT n % 2 AS id FROM generate_series(1, 50000) AS n")
    bloated.execute('CREATE INDEX "I" ON t (id); GRANT SELECT ON t TO operations_maintainer; DELETE FROM t')
    bloated.execute("INSERT INTO t SELECT n % 2 FROM generate_series(1, 100) AS n")
    flush_statistics(bloated)  # told after the ANALYZE, the rows would count twice
    bloated.execute("ANALYZE t")
    bloat.review("r3")
    assert reindex.candidates("r3", False) == []
    found = actions.find("reindex", "all indexes", "r3")
    assert found is not None
    assert found.reason == "no index is known to be bloated; 1 could be neither estimated nor measured"


def test_a_dry_run_changes_nothing(bloated: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    before = bloated.execute("SELECT 'public.\"I\"'::regclass::oid").fetchone()
    assert reindex.rebuild(CANDIDATE, "r1", True)["state"] == "planned"
    assert bloated.execute("SELECT 'public.\"I\"'::regclass::oid").fetchone() == before
    [decision] = reindex.decisions([CANDIDATE | {"needs_approval": True}], [])
    reindex.rebuild(**decision, run_id="r2", dry_run=True)
    action = actions.find("reindex", NAME, "r2")
    assert action is not None
    assert action.plan["answer"] == "nobody was asked in a dry run"


def test_a_version_that_corrupts_indexes_is_refused(
    owned: psycopg.Connection, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one value of a real server that is not real here: PostgreSQL 14.3."""
    monkeypatch.setattr(database, "server_version", lambda _: 140003)
    before = owned.execute("SELECT 'public.\"I\"'::regclass::oid").fetchone()
    with pytest.raises(ConfigurationError, match=r"may corrupt public\.\"I\" by rebuilding it; update to 14.4 first"):
        _rebuild()
    assert owned.execute("SELECT 'public.\"I\"'::regclass::oid").fetchone() == before
    assert _acts(warehouse)[0][1] == "failed"
    bloat.review("r1")
    [found] = findings.of_run("r1", "index_bloat")
    assert found.remedy.startswith(
        "-- PostgreSQL 14.0 to 14.3 may corrupt what it builds CONCURRENTLY: update to 14.4 "
    )
    assert found.remedy.endswith(f"\nREINDEX INDEX CONCURRENTLY {NAME};")
    monkeypatch.setattr(database, "server_version", lambda _: 140004)
    assert _rebuild("r2")["state"] == "proven"


# ----------------------------------------------------------------------------------------------------- approval
LARGE = CANDIDATE | {"index": "public.large", "needs_approval": True}
ANN = {"id": "1", "name": "ann"}


def test_questions_and_their_answers() -> None:
    [question] = reindex.questions([CANDIDATE, LARGE], "manual__{{ 1 }}")
    assert question["subject"] == "Rebuild the index public.large?"
    assert "**0.4 MB** of 0.5 MB" in question["body"]
    hostile = reindex.questions([LARGE | {"index": 'public."{{ conn.x.password }}`"'}], "r1")[0]
    assert "{" not in hostile["subject"] + hostile["body"], "Airflow renders it as a template"
    assert (question["options"], question["defaults"]) == (["Rebuild public.large", "Leave public.large"], [
        "Leave public.large"
    ])  # fmt: skip
    approve = {"chosen_options": ["Rebuild public.large"], "responded_by_user": ANN}
    reject = {"chosen_options": ["Leave public.large"], "responded_by_user": ANN}
    in_vain = {"chosen_options": ["Leave public.large"], "responded_by_user": None}
    nobody = {"chosen_options": ["Rebuild public.large"], "responded_by_user": None}
    expected: list[tuple[list[dict[str, Any] | None], bool, str]] = [
        ([approve], True, "approved by ann"),
        ([reject], False, "rejected by ann"),
        ([in_vain], False, "nobody approved it in time"),
        ([nobody], False, "nobody approved it in time"),
        ([None], False, "nobody approved it in time"),
        ([], False, "nobody approved it in time"),
    ]
    for answers, approved, words in expected:
        small, large = reindex.decisions([CANDIDATE, LARGE], answers)
        assert small == {"candidate": CANDIDATE, "approved": True, "answer": ""}
        assert large == {"candidate": LARGE, "approved": approved, "answer": words}
    other = LARGE | {"index": "public.other"}
    of_other = approve | {"chosen_options": ["Rebuild public.other"]}
    decided = reindex.decisions([LARGE, CANDIDATE, other], [reject, of_other])
    assert [one["approved"] for one in decided] == [False, True, True], "each answer belongs to its question"
    with pytest.raises(ConfigurationError, match="2 answers were given to 1 questions"):
        reindex.decisions([LARGE], [approve, approve])
    with pytest.raises(ConfigurationError, match="1 answers were given to 2 questions; start the run again"):
        reindex.decisions([LARGE, other], [approve])  # to the other one, perhaps
    with pytest.raises(ConfigurationError, match=r"'Rebuild public.large'\] is not to the question about pub"):
        reindex.decisions([other], [approve])


def test_what_was_rejected_is_left_alone(bloated: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    before = _indexes(bloated)
    _rebuild(approved=False, answer="rejected by ann")
    assert _acts(warehouse) == [(NAME, "nothing_to_do", "rejected by ann")]
    assert _indexes(bloated) == before


# ------------------------------------------------------------------------------------------------- interruptions
def _leave_behind(connection: psycopg.Connection) -> None:
    """Interrupt a REINDEX CONCURRENTLY as a restarted server would: its invalid index stays."""
    dsn, password = connection.info.dsn, connection.info.password
    with psycopg.connect(dsn, password=password) as blocker:  # the rebuilding waits for this transaction
        blocker.execute("INSERT INTO t VALUES (0)")
        with psycopg.connect(dsn, password=password, autocommit=True) as other:
            other.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute('REINDEX INDEX CONCURRENTLY "I"')
        blocker.rollback()


def test_only_our_own_leftovers_are_removed(owned: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    _leave_behind(owned)  # somebody else's, before our act
    assert _indexes(owned) == [('"I"', True), ('"I_ccnew"', False)]
    actions.applying(actions.plan("reindex", NAME, "r1", dry_run=False, plan={"before": _before()}))
    _leave_behind(owned)  # ours: the act had begun
    assert [name for name, _ in _indexes(owned)] == ['"I"', '"I_ccnew"', '"I_ccnew1"']
    assert _rebuild()["state"] == "proven"
    assert _indexes(owned) == [('"I"', True), ('"I_ccnew"', False)], "the other's is not ours to remove"


def test_a_role_that_may_rebuild_but_not_drop(
    platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    """MAINTAIN (PostgreSQL 17) allows to rebuild an index that another owns, but not to drop what is left of it."""
    platform.execute('CREATE TABLE t (id bigint); CREATE INDEX "I" ON t (id)')
    assert _rebuild("r1")["state"] == "proven"
    actions.applying(actions.plan("reindex", NAME, "r2", dry_run=False, plan={"before": _before()}))
    _leave_behind(platform)
    with pytest.raises(ConfigurationError, match='as its owner run: DROP INDEX CONCURRENTLY public."I_ccnew"'):
        _rebuild("r2")
    platform.execute('DROP INDEX CONCURRENTLY "I_ccnew"')
    assert _rebuild("r2")["state"] == "proven"


def _before() -> dict[str, Any]:
    with database.maintenance_session() as connection:
        found = reindex._measure(connection, NAME)
    assert found is not None
    return found


def test_a_later_run_cleans_up(owned: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    actions.applying(actions.plan("reindex", NAME, "r1", dry_run=False, plan={"before": _before()}))
    _leave_behind(owned)
    owned.execute('ALTER INDEX "I" RENAME TO "Renamed"')
    assert reindex.clean_up("r1") == [], "an index of another name was not ours"
    owned.execute('ALTER INDEX "Renamed" RENAME TO "I"')
    [(oid, size)] = owned.execute(
        "SELECT c.oid::bigint, pg_relation_size(c.oid) FROM pg_class c WHERE relname = 'I_ccnew'"
    ).fetchall()
    assert reindex.clean_up("r2") == [LEFT]
    assert reindex.clean_up("r2") == []
    assert reindex.clean_up("r3") == []
    assert _indexes(owned) == [('"I"', True)]
    act = actions.find("reindex", LEFT, "r2")
    assert act is not None
    assert (act.state, act.dry_run) == ("proven", False)
    assert act.reason == f"an interrupted rebuilding of {NAME} had left it: it was dropped, not rebuilt"
    before = {"oid": oid, "size_bytes": size, "valid": False}
    assert act.plan == {"left_by_run": "r1", "rebuilding_of": NAME, "before": before}
    assert act.applied == {"statement": 'DROP INDEX CONCURRENTLY "public"."I_ccnew"'}
    assert act.proof == {"before": before, "after": {"exists": False, "size_bytes": 0}, "bytes_returned": size}


def test_a_removal_that_was_killed_before_its_proof_is_proven_by_the_next_attempt(
    owned: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise SourceUnavailable("lost")

    actions.applying(actions.plan("reindex", NAME, "r1", dry_run=False, plan={"before": _before()}))
    _leave_behind(owned)
    with environment.context() as patch:
        patch.setattr(actions, "prove", lost)
        with pytest.raises(SourceUnavailable):
            reindex.clean_up("r2")
    assert _indexes(owned) == [('"I"', True)]
    assert reindex.clean_up("r2") == [LEFT]
    act = actions.find("reindex", LEFT, "r2")
    assert act is not None
    assert (act.state, act.applied) == ("proven", {"by": "an earlier attempt"})


def test_a_removal_that_fails_is_recorded(
    platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    """The maintaining role may rebuild the owner's index by MAINTAIN (PostgreSQL 17), but not drop what is left."""
    platform.execute('CREATE TABLE t (id bigint); CREATE INDEX "I" ON t (id)')
    actions.applying(actions.plan("reindex", NAME, "r1", dry_run=False, plan={"before": _before()}))
    _leave_behind(platform)
    with pytest.raises(ConfigurationError, match='as its owner run: DROP INDEX CONCURRENTLY public."I_ccnew"'):
        reindex.clean_up("r2")
    act = actions.find("reindex", LEFT, "r2")
    assert act is not None
    assert act.state == "failed"
    assert "may not drop" in act.reason
    assert _indexes(platform) == [('"I"', True), ('"I_ccnew"', False)]


def test_nothing_is_cleaned_up_that_nobody_of_us_began(owned: psycopg.Connection) -> None:
    _leave_behind(owned)
    assert reindex.clean_up("r3") == []
    assert _indexes(owned) == [('"I"', True), ('"I_ccnew"', False)]


def _run_in_a_process() -> None:
    settings.cache_clear()
    _rebuild()


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_task_is_repeated(owned: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    """The server goes on with the killed task's statement: the next attempt waits for it and proves it."""
    with psycopg.connect(owned.info.dsn, password=owned.info.password) as blocker:
        blocker.execute("INSERT INTO t VALUES (0)")
        process = multiprocessing.get_context("fork").Process(target=_run_in_a_process)
        process.start()
        _wait(lambda: len(_indexes(owned)) == 2)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert _acts(warehouse)[0][1] == "applying"
        again: list[Any] = []
        thread = threading.Thread(target=lambda: again.append(_rebuild()))
        thread.start()
        time.sleep(0.5)
        assert not again, "it waits for the server"
        blocker.rollback()
    thread.join(timeout=20)
    assert again[0]["state"] == "proven"
    action = actions.find("reindex", NAME, "r1")
    assert action is not None
    assert action.applied is not None
    assert action.applied["by"] == "an earlier attempt"
    assert action.proof is not None
    assert action.proof["bytes_returned"] > 300_000
    assert _indexes(owned) == [('"I"', True)]


def test_a_rebuilding_that_waited_in_vain_is_cleaned_up(
    owned: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WAIT_SECONDS", "1")
    settings.cache_clear()
    with psycopg.connect(owned.info.dsn, password=owned.info.password) as blocker:
        blocker.execute("INSERT INTO t VALUES (0)")
        # To drop what it left waits for the same transaction: what could not be removed now is the next attempt's.
        with pytest.raises(MaintenanceFailed, match="holds a lock"):
            _rebuild()
    assert _acts(warehouse)[0][1] == "failed"
    assert _rebuild()["state"] == "proven"
    assert _indexes(owned) == [('"I"', True)]


def test_a_long_transaction_is_named_before_anything_begins(
    owned: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WAIT_SECONDS", "0.3")
    settings.cache_clear()
    with psycopg.connect(owned.info.dsn, password=owned.info.password) as blocker:
        blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")
        time.sleep(0.5)
        with pytest.raises(MaintenanceFailed, match="would have to wait for process .* as escrow_owner"):
            _rebuild()
    assert warehouse.execute("SELECT state, applied_at FROM ops.maintenance_action").fetchall() == [("failed", None)]


def test_a_table_that_is_being_changed_is_waited_for(
    owned: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WAIT_SECONDS", "0.3")
    settings.cache_clear()
    with psycopg.connect(owned.info.dsn, password=owned.info.password) as other:
        other.execute("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(MaintenanceFailed, match="builds an index of public.t, vacuums or changes it for longer"):
            _rebuild()


# ------------------------------------------------------------------------------------------------------ failures
def test_an_index_that_was_dropped_meanwhile_needs_nothing(
    owned: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    begun = actions.applying(actions.plan("reindex", NAME, "r2", dry_run=False, plan={"before": _before()}))
    done = _rebuild()
    owned.execute('DROP INDEX "I"')
    assert _rebuild() == done, "what is proven stays so"
    dropped = _rebuild("r3", answer="approved by ann")
    assert (dropped["state"], dropped["reason"]) == ("nothing_to_do", "the index does not exist any more")
    assert _rebuild("r3", answer="approved by ann") == dropped
    with pytest.raises(ConfigurationError, match='the index public."I" does not exist any more'):
        _rebuild(begun.run_id)
    assert [state for _, state, _ in _acts(warehouse)] == ["proven", "failed", "nothing_to_do"]


def test_failures_are_one_sentence(
    owned: psycopg.Connection, environment: pytest.MonkeyPatch, any_databases: Databases
) -> None:
    name = owned.info.dbname
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", any_databases.url(name, "operations_reader"))
    with pytest.raises(ConfigurationError, match="lacks a privilege"):
        _rebuild()
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        _rebuild()
