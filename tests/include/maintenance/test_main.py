"""The command does the whole day, and says by its exit status when an act failed."""

import json
import re
from pathlib import Path

import psycopg
import pytest

from demo.processes import free_port
from include.maintenance.__main__ import main
from include.settings import settings
from tests.old_postgres import flush_statistics


def _states(warehouse: psycopg.Connection) -> dict[str, str]:
    return dict(warehouse.execute("SELECT kind || ' ' || resource, state FROM ops.maintenance_action").fetchall())


def test_a_day_and_its_dry_run(
    platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, action) SELECT now() - n * interval '1 day', 'x'"
        " FROM generate_series(1, 200) AS n; "
    )
    flush_statistics(platform)
    (tmp_path / "platform_logs" / "access.log").write_text("one\n")
    assert main(["daily", "--dry-run", "--run-id", "r1"]) == 0
    assert _states(warehouse) == {
        "prune public.audit_logs": "planned",
        "vacuum all tables": "planned",
        "analyze public.audit_logs": "planned",
        "rotate_logs all logs": "planned",
        "rotate_logs access.log": "planned",
        "rotate_logs application.log": "nothing_to_do",
        "rotate_logs error.log": "nothing_to_do",
        "cache_statistics platform_redis": "planned",
    }
    assert platform.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (200,)
    assert main(["daily", "--run-id", "r1"]) == 0
    proven = {kind for kind, state in _states(warehouse).items() if state == "proven"}
    assert len(proven & {"vacuum public.audit_logs", "analyze public.audit_logs"}) == 1, (
        "as the server's statistics are"
    )
    assert proven - {"vacuum public.audit_logs", "analyze public.audit_logs"} == {
        "prune public.audit_logs",
        "vacuum all tables",
        "rotate_logs all logs",
        "rotate_logs access.log",
        next(kind for kind in proven if kind.startswith("rotate_logs access.log-")),  # compressed at once
        "cache_statistics platform_redis",
    }
    assert platform.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (89,), "90 days ago has passed"
    capsys.readouterr()
    [(archive,)] = warehouse.execute("SELECT archive_id FROM ops.archive").fetchall()
    assert main(["restore", archive, "platform_owner", "public.restored"]) == 0
    assert '"rows": 111' in capsys.readouterr().out


def test_a_failure_is_said_and_the_rest_is_done(
    platform: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    platform.execute("DROP TABLE public.audit_logs")
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{free_port()}/0")
    assert main(["daily", "--run-id", "r1"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "no table public.audit_logs" in said[0]
    assert "platform_redis cannot be reached" in said[1]
    assert _states(warehouse)["vacuum all tables"] == "nothing_to_do"


def test_a_table_that_cannot_be_vacuumed_does_not_silence_the_others(
    platform: psycopg.Connection, warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("locked", "locked_too", "open"):
        platform.execute(
            f"CREATE TABLE {name} WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 5000)".encode()
        )
        platform.execute(f"GRANT MAINTAIN ON {name} TO operations_maintainer".encode())
    flush_statistics(platform)
    with platform.transaction():
        platform.execute("LOCK TABLE locked, locked_too IN SHARE UPDATE EXCLUSIVE MODE")
        assert main(["daily", "--run-id", "r1"]) == 1
    said = capsys.readouterr()
    failed = [
        re.match(r"failed: vacuum of public\.(\w+): another session holds", line) for line in said.err.splitlines()
    ]
    assert sorted(one[1] if one else "" for one in failed) == ["locked", "locked_too"]
    told = {one["resource"]: one["state"] for one in map(json.loads, said.out.splitlines()) if "resource" in one}
    assert (told["public.open"], told["all tables"], told["all logs"]) == ("proven", "failed", "nothing_to_do")


def test_airflow_looks_after_itself_without_airflow(
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["airflow", "--log-folder", str(tmp_path / "none"), "--run-id"]
    assert main([*command, "r1"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" is not defined")[0] for line in said] == [
        "failed: the connection airflow_db", "failed: the connection airflow_api",
    ]  # fmt: skip
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS", '["airflow_db", "airflow_api"]')
    settings.cache_clear()
    assert main([*command, "r1"]) == 0
    assert capsys.readouterr().out.count("on purpose") == 1, "the act on the database; the DAGs are a finding"
    assert _states(warehouse) == {
        "clean_airflow_database Airflow's metadata database": "nothing_to_do",
        "delete_airflow_logs Airflow's logs": "nothing_to_do",
        "remove_leftovers what operations leaves behind": "nothing_to_do",
    }
    settings.cache_clear()
