"""What the maintenance role lacks is named, with a fix that mends it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import database
from include.platform import __main__ as command
from include.platform import maintenance_rights
from include.platform.contract import Kind


@pytest.fixture
def role(databases: Databases) -> Iterator[str]:
    name = f"keeper_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'keeper'".encode())
        yield name
        superuser.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def escrow(databases: Databases, environment: pytest.MonkeyPatch, role: str) -> Iterator[psycopg.Connection]:
    """The platform's own schema in a database of the test's; yields a superuser. The connections lead to it."""
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    database.install(databases.url(name, "escrow_owner"))
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", databases.url(name, "operations_reader"))
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.postgres.url(name, role, "keeper"))
    with psycopg.connect(databases.postgres.url(name), autocommit=True) as superuser:
        superuser.execute(f"GRANT CONNECT ON DATABASE {name} TO {role}".encode())
        yield superuser
    databases.drop(name)


def test_what_is_missing_is_named_and_mended(
    escrow: psycopg.Connection, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    escrow.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    assert command.check() == 1
    said = capsys.readouterr().out
    assert f"the role {role} may not read the server's statistics" in said
    assert f"the role {role}, which prunes it, lacks USAGE, SELECT, DELETE" in said
    assert re.search(
        rf"the role {role} may not read \d+ sequences of public, so that nobody learns when keys run out", said
    )
    assert re.search(rf"the role {role} may vacuum and analyze none of the \d+ tables", said)
    for line in said.splitlines():
        if "GRANT" in line:
            escrow.execute(line[line.index("GRANT") :].encode())
    assert command.check() == 0
    assert (
        "The role of platform_db_maintenance may vacuum tables and prune public.audit_logs." in capsys.readouterr().out
    )


def test_a_superuser_and_an_unknown_table_are_named(escrow: psycopg.Connection, databases: Databases) -> None:
    (problem,) = maintenance_rights.problems(escrow, ["public.audit_logs"])
    assert (problem.kind, problem.where) == (Kind.SUPERUSER, "the server")
    with psycopg.connect(databases.url(escrow.info.dbname, "operations_maintainer")) as maintainer:
        assert maintenance_rights.problems(maintainer, ["public.audit_logs"]) == []
        (problem,) = maintenance_rights.problems(maintainer, ["public.audit_logs", "public.gone"])
    assert (problem.kind, problem.where) == (Kind.MISSING_TABLE, "public.gone")


def test_without_the_connection_it_is_said_that_nobody_looked(
    escrow: psycopg.Connection, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE")
    assert command.check() == 0
    assert "platform_db_maintenance is not defined" in capsys.readouterr().out
