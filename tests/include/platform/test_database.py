"""Errors of the platform's database become one sentence that says what happened."""

from collections.abc import Iterator

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import database


@pytest.fixture
def server(databases: Databases) -> Iterator[psycopg.Connection]:
    with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
        yield superuser


@pytest.mark.parametrize("code", ["disk_full", "out_of_memory", "deadlock_detected", "io_error"])
def test_what_the_server_could_not_do_is_no_lost_connection(server: psycopg.Connection, code: str) -> None:
    refused = f"DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$"
    with (
        pytest.raises(SourceUnavailable, match=r"^VACUUM of t: the server could not do it just now \(no room\)$"),
        database.errors_named("VACUUM of t"),
    ):
        server.execute(refused.encode())


def test_a_lost_connection_is_named(server: psycopg.Connection) -> None:
    for _ in range(2):  # as the server ends it (57P01), and when it is gone
        with (
            pytest.raises(SourceUnavailable, match="^VACUUM of t: the connection platform_db_maintenance was lost$"),
            database.errors_named("VACUUM of t"),
        ):
            server.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_a_name_cannot_leave_its_comment() -> None:
    assert database.in_comment('"a\nDROP TABLE users; --"') == '"a?DROP TABLE users; --"'
    assert database.in_comment("\r\x00\x0b\x85\u2028é\t.") == "?????é?."


def test_a_text_stays_within_its_literal(server: psycopg.Connection) -> None:
    for text in ("it's", "''", "a\nb; --"):
        assert server.execute(f"SELECT {database.literal(text)}".encode()).fetchone() == (text,)


def test_a_name_is_quoted_where_it_must_be(server: psycopg.Connection) -> None:
    for name, written in {"users": "users", "Users": '"Users"', 'a "b"': '"a ""b"""', "1st": '"1st"'}.items():
        assert database.identifier(name) == written
        assert database.bare(written) == name
        found = server.execute(f"SELECT 1 AS {written}, 2 AS {database.quoted(name)}".encode()).description
        assert found is not None
        assert [column.name for column in found] == [name, name]


def test_errors_of_a_session_are_named_by_what_is_done_in_it(
    databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    url = databases.url("postgres", "operations_maintainer")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", url)
    with (
        pytest.raises(ConfigurationError, match='^the look: relation "public.no_table" does not exist; correct the'),
        database.maintenance_session("the look") as connection,
    ):
        connection.execute("SELECT FROM public.no_table")
    with pytest.raises(psycopg.errors.UndefinedTable), database.maintenance_session() as connection:
        connection.execute("SELECT FROM public.no_table")


@pytest.mark.parametrize(
    ("version", "told"), [(130014, False), (140000, True), (140003, True), (140004, False), (180000, False)]
)
def test_the_versions_that_corrupt_indexes(
    server: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, version: int, told: bool
) -> None:
    monkeypatch.setattr(database, "server_version", lambda _: version)
    assert ("update to 14.4 first" in database.update_first(server)) is told
