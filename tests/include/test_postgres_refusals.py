"""Refused connections to PostgreSQL, by the server and by PgBouncer in front of it."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes, free_port, listens
from include.connections import postgres
from include.outcome import ConfigurationError, Outcome
from include.platform import probes
from include.postgres_refusals import refusal
from tests.run_folder import server_folder


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # What libpq says of a server with hostssl rules only, first over SSL and then without it.
        (
            'FATAL:  password authentication failed for user "ops"\n'
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "ops", database "warehouse", no encryption',
            "its login, password or database is wrong",
        ),
        (
            'FATAL:  permission denied for database "warehouse"\nDETAIL:  User does not have CONNECT privilege.\n'
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "ops", database "warehouse", no encryption',
            'its role lacks the privilege CONNECT; run GRANT CONNECT ON DATABASE "warehouse" TO "ops"',
        ),
        ("fe_sendauth: no password supplied", "its login, password or database is wrong"),
        (
            'connection to server at "::1", port 1 failed: server certificate for "db" does not match host name "::1"',
            'one of its options, sslmode or the like, cannot be met (server certificate for "db" does not match '
            'host name "::1"); correct it or the server',
        ),
        (
            'FATAL:  unrecognized configuration parameter "statement_timeot"',
            "one of its options, sslmode or the like, cannot be met (FATAL:  unrecognized configuration parameter "
            '"statement_timeot"); correct it or the server',
        ),
        ('FATAL:  too many connections for role "ops"', None),
        ("FATAL:  the database system is starting up", None),
    ],
)
def test_what_a_person_must_mend_is_told_from_what_passes(text: str, reason: str | None) -> None:
    assert refusal(text, "ops", "warehouse") == reason


@pytest.fixture(scope="module")
def pooler(databases: Databases) -> Iterator[int]:
    """The port of a PgBouncer in front of the run's cluster, with session pooling and otherwise its defaults."""
    if (program := shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin")) is None:
        pytest.skip("PgBouncer is not installed here; install the package pgbouncer")
    databases.create("pooled", "escrow_owner")
    folder = server_folder("pgbouncer")
    (folder / "users").write_text(
        "".join(f'"{role}" "{databases.passwords[role]}"\n' for role in ("operations_reader", "escrow_owner"))
    )
    port = free_port()
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npooled = host=127.0.0.1 port={databases.postgres.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = session\n"
        f"auth_type = scram-sha-256\nauth_file = {folder / 'users'}\n"
    )
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it refuses to run as root
    processes = Processes(folder / "processes.json")
    try:
        started = processes.start(
            "PgBouncer", [program, folder / "pgbouncer.ini"], log=folder / "log",
            user=account and account.pw_uid, group=account and account.pw_gid,
        )  # fmt: skip
        processes.wait_until(started, lambda: listens(port), seconds=15)
        yield port
    finally:
        processes.stop_all()
        databases.drop("pooled")


def _through(pooler: int, databases: Databases, database: str = "pooled") -> str:
    return databases.url(database, "operations_reader").replace(f":{databases.postgres.port}/", f":{pooler}/")


def test_a_session_behind_a_pooler_is_as_bounded_as_without(
    environment: pytest.MonkeyPatch, databases: Databases, pooler: int
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", _through(pooler, databases))
    for autocommit in (True, False):
        with postgres(
            "platform_db", autocommit=autocommit, statement_timeout=timedelta(milliseconds=150)
        ) as connection:
            for name, value in (("timezone", "UTC"), ("statement_timeout", "150ms"), ("search_path", "pg_catalog")):
                assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(5)")
    found = probes.database()
    assert (found.outcome, found.evidence) == (Outcome.OK, {})


@pytest.mark.parametrize(
    ("database", "option", "why"),
    [
        (
            "pooled",
            "?options=-c%20work_mem%3D64MB",
            "the connection pooler in front of it admits no such startup parameter (FATAL:  unsupported startup "
            "parameter: options); remove it from the connection, or name it in the pooler's ignore_startup_parameters",
        ),
        ("nowhere", "", "its login, password or database is wrong"),
    ],
)
def test_what_a_pooler_refuses_is_a_persons_to_mend(
    environment: pytest.MonkeyPatch, databases: Databases, pooler: int, database: str, option: str, why: str
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", _through(pooler, databases, database) + option)
    with pytest.raises(ConfigurationError) as refused:
        postgres("platform_db")
    assert str(refused.value) == f"platform_db (127.0.0.1:{pooler}/{database}) refused the connection: {why}"
    assert probes.database().outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("given", ["-c statement_timeout=7min", "--statement-timeout=7min"])
def test_a_bound_of_the_connections_own_goes_before_ours(
    environment: pytest.MonkeyPatch, databases: Databases, given: str
) -> None:
    url = databases.postgres.url("postgres")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", f"{url}?options={given.replace(' ', '%20').replace('=', '%3D')}")
    with postgres("platform_db", statement_timeout=timedelta(milliseconds=150)) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("7min",)
