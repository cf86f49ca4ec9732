"""What a server only counts: a page damaged on the disk, WAL that is not archived, constraints left NOT VALID."""

import os
import time
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import server_health
from include.outcome import Outcome, SourceUnavailable
from include.warehouse.findings import Finding
from tests.old_postgres import flush_statistics
from tests.recorded_findings import latest_findings

_WAITING = "SELECT 1 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"


def checked(run_id: str = "run") -> dict[str, Finding]:
    server_health.check(run_id)
    return {one.finding.resource: one.finding for one in latest_findings("server_health")}


def test_a_sound_server(any_platform: psycopg.Connection) -> None:
    found = checked()
    assert set(found) == {"data checksums", "WAL archiving", "constraints"}
    [(on,)] = any_platform.execute("SELECT current_setting('data_checksums')")
    assert found["data checksums"].outcome is (Outcome.OK if on == "on" else Outcome.NOT_APPLICABLE)
    assert found["WAL archiving"].outcome is Outcome.NOT_APPLICABLE
    assert found["constraints"].outcome is Outcome.OK


def test_constraints_left_not_valid(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        'CREATE TABLE public."Orders" (id integer PRIMARY KEY, price integer) PARTITION BY RANGE (id);'
        'CREATE TABLE public.orders_1 PARTITION OF public."Orders" FOR VALUES FROM (1) TO (10);'
        'ALTER TABLE public."Orders" ADD CONSTRAINT "Price" CHECK (price > 0) NOT VALID;'
        "CREATE TABLE public.lines (order_id integer);"
        'ALTER TABLE public.lines ADD CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES public."Orders" NOT VALID'
    )
    found = checked()
    names = {'constraint "Price" of public."Orders"', "constraint of_order of public.lines"}
    assert set(found) - {"data checksums", "WAL archiving"} == names, "that of the partition is the same"
    for name in names:
        assert found[name].outcome is Outcome.WARNING
        any_platform.execute(found[name].remedy)
    assert checked("after")["constraints"].outcome is Outcome.OK


def test_a_check_that_fails_is_unknown(platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        server_health.check("run")
    assert [one.finding.outcome for one in latest_findings("server_health")] == [Outcome.UNKNOWN]


def _restart(own: Databases, environment: pytest.MonkeyPatch) -> None:
    own.postgres.start()  # on another port
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", own.url("escrow", "operations_maintainer"))


@pytest.fixture
def own(own_cluster: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> Databases:
    """A cluster that archives its WAL by a command, which a test may change."""
    with psycopg.connect(own_cluster.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute("ALTER SYSTEM SET archive_mode = 'on'")
        superuser.execute("ALTER SYSTEM SET archive_command = 'true'")
    own_cluster.postgres.stop()
    _restart(own_cluster, environment)
    return own_cluster


def _archive(superuser: psycopg.Connection, command: str, column: str) -> None:
    """Let a segment be archived by a command and wait for the archiver to count that."""
    superuser.execute(f"ALTER SYSTEM SET archive_command = '{command}'")
    superuser.execute("SELECT pg_reload_conf()")
    [(before,)] = superuser.execute(f"SELECT {column} FROM pg_stat_archiver")
    while superuser.execute(f"SELECT {column} FROM pg_stat_archiver").fetchone() == (before,):
        if not superuser.execute(_WAITING).fetchone():  # none yet, or the last one went by the command of before
            superuser.execute("CREATE TABLE w (x integer); DROP TABLE w; SELECT pg_switch_wal()")
        time.sleep(0.05)


def test_archiving_that_fails_now(own: Databases) -> None:
    with psycopg.connect(own.postgres.url("escrow"), autocommit=True) as superuser:
        _archive(superuser, "true", "archived_count")
        assert checked("run 1")["WAL archiving"].outcome is Outcome.OK
        _archive(superuser, "false", "failed_count")
        failing = checked("run 2")["WAL archiving"]
        assert failing.outcome is Outcome.CRITICAL
        assert failing.evidence["failed_count"] >= 1
        assert "nothing was archived since 20" in failing.summary
        _archive(superuser, "true", "archived_count")
        assert checked("run 3")["WAL archiving"].outcome is Outcome.OK, "failures of before count no more"


def _wait_for_command(superuser: psycopg.Connection, command: str) -> None:
    while superuser.execute("SHOW archive_command").fetchone() != (command,):
        time.sleep(0.02)


def test_archiving_that_counts_no_failure(own: Databases) -> None:
    with psycopg.connect(own.postgres.url("escrow"), autocommit=True) as superuser:
        _archive(superuser, "true", "archived_count")
        superuser.execute("ALTER SYSTEM SET archive_command = ''")
        superuser.execute("SELECT pg_reload_conf()")
        _wait_for_command(superuser, "")
        idle = checked("run 1")["WAL archiving"]
        assert idle.outcome is Outcome.CRITICAL
        assert "neither archive_command nor archive_library says how" in idle.summary
        [(folder,)] = superuser.execute("SELECT current_setting('data_directory')")
        held = Path(folder) / "held"
        held.touch()
        hanging_command = f"while test -e {held}; do sleep 0.1; done"
        superuser.execute(f"ALTER SYSTEM SET archive_command = '{hanging_command}'".encode())
        superuser.execute("CREATE TABLE w (x integer); DROP TABLE w; SELECT pg_switch_wal()")
        superuser.execute("SELECT pg_reload_conf()")
        _wait_for_command(superuser, hanging_command)
        assert checked("run 2")["WAL archiving"].outcome is Outcome.OK, "a minute is no hour"
        for ready in (Path(folder) / "pg_wal" / "archive_status").glob("*.ready"):
            os.utime(ready, (time.time() - 7200,) * 2)
        hanging = checked("run 3")["WAL archiving"]
        assert hanging.outcome is Outcome.CRITICAL
        assert "and no attempt ends; nothing was archived since 20" in hanging.summary
        superuser.execute("REVOKE pg_monitor FROM operations_maintainer")
        blind = checked("run 4")["WAL archiving"]
        assert blind.outcome is Outcome.UNKNOWN
        superuser.execute(blind.remedy.encode())
        assert checked("run 5")["WAL archiving"].outcome is Outcome.CRITICAL
        held.unlink()
        while superuser.execute(_WAITING).fetchone():
            time.sleep(0.05)
        assert checked("run 6")["WAL archiving"].outcome is Outcome.OK


def test_a_damaged_page(own: Databases, environment: pytest.MonkeyPatch) -> None:
    with psycopg.connect(own.postgres.url("escrow"), autocommit=True) as superuser:
        if superuser.execute("SHOW data_checksums").fetchone() == ("off",):
            assert checked()["data checksums"].outcome is Outcome.NOT_APPLICABLE
            return
        superuser.execute("CREATE TABLE damaged AS SELECT generate_series(1, 100) AS x; CHECKPOINT")
        [(folder, file)] = superuser.execute(
            "SELECT current_setting('data_directory'), pg_relation_filepath('damaged')"
        )
    own.postgres.stop()
    with (Path(folder) / file).open("r+b") as page:
        page.seek(8000)
        page.write(b"\xff" * 8)
    _restart(own, environment)
    with psycopg.connect(own.postgres.url("escrow"), autocommit=True) as superuser:
        with pytest.raises(psycopg.errors.DataCorrupted):
            superuser.execute("SELECT count(*) FROM damaged")
        flush_statistics(superuser)
        found = checked()["data checksums"]
        assert found.outcome is Outcome.CRITICAL
        assert "met a damaged page in escrow" in found.summary
        assert found.evidence["failures"][0]["checksum_failures"] >= 1
        superuser.execute("DROP TABLE damaged; SELECT pg_stat_reset()")
