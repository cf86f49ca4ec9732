"""Connections are read from the environment as Airflow reads them, and their failures name the remedy."""

import json
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from demo.databases import Databases
from demo.processes import Process, Processes
from demo.servers import Postgres
from include import connections
from include.connections import details, folder, postgres, postgres_url, redis
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import ROOT
from tests.ipv6 import HAS_IPV6, needs_ipv6
from tests.run_folder import server_folder

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in connections.CONNECTIONS:
        monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}", raising=False)
    monkeypatch.delitem(sys.modules, "airflow", raising=False)  # as without Airflow


def test_a_uri_and_json_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://ops:p%40ss%2F@db:6432/warehouse?sslmode=require")
    from_uri = details("warehouse")
    facts = {"conn_type": "postgresql", "host": "db", "port": 6432, "login": "ops", "password": "p@ss/"}
    facts |= {"schema": "warehouse", "extra": {"sslmode": "require"}}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts))
    assert details("warehouse") == from_uri
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts | {"extra": '{"sslmode": "require"}'}))
    assert details("warehouse") == from_uri
    assert "p@ss/" not in repr(from_uri)
    assert postgres_url("warehouse") == "postgresql://ops:p%40ss%2F@db:6432/warehouse?sslmode=require"


@given(TEXT, TEXT, TEXT)
def test_any_login_and_password_survive(login: str, password: str, schema: str) -> None:
    facts = {"conn_type": "postgres", "host": "db", "login": login, "password": password, "schema": "warehouse"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts))
        read = psycopg.conninfo.conninfo_to_dict(postgres_url("warehouse"))
    assert (read["user"], read["password"]) == (login, password)


@pytest.mark.parametrize("value", ["nonsense", "{", '{"host": "x"}', "[]", "postgresql://h:port/x"])
def test_an_unreadable_connection_names_its_variable_and_not_its_value(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value)
    with pytest.raises(ConfigurationError, match="^AIRFLOW_CONN_WAREHOUSE is neither") as caught:
        details("warehouse")
    assert value not in str(caught.value) or len(value) < 3


def test_airflow_masks_what_is_secret_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads no connection of the environment itself, so nothing else tells it.

    No other test has this password or a part of it: what was masked once in a process stays so.
    """
    from airflow.sdk._shared.secrets_masker import redact

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://ops:Xq7%40v%2Fz2@db/warehouse?sslpassword=k3y-of-ssl")
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", "https://chain.example.org/v3/0123456789abcdef")
    for name in ("warehouse", "platform_chain"):
        details(name)
    said = "Xq7@v/z2 Xq7%40v%2Fz2 k3y-of-ssl https://chain.example.org/v3/0123456789abcdef ops db warehouse"
    assert redact(said) == "*** *** *** https://chain.example.org/*** ops db warehouse"


def test_an_undefined_connection_says_what_it_is_and_where_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match=r"archived to\) is not defined; set AIRFLOW_CONN_ARCHIVE"):
        details("archive")
    with pytest.raises(ConfigurationError, match="connection elsewhere"):
        details("elsewhere")


def test_postgres_speaks_utc_and_bounds_statements(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", databases.postgres.url("postgres"))
    with postgres("warehouse", statement_timeout=timedelta(milliseconds=150)) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("150ms",)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(5)")


def test_refused_and_unreachable_are_told_apart(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    there = databases.postgres.url("postgres", password="hunter2")
    for wrong in (there, databases.postgres.url("nowhere")):
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", wrong)
        with pytest.raises(ConfigurationError, match="refused the connection") as refused:
            postgres("warehouse")
        assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://ops:hunter2@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match=r"warehouse \(127\.0\.0\.1:1/warehouse\) cannot be reached") as away:
        postgres("warehouse")
    assert "hunter2" not in str(away.value)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "mysql://ops@127.0.0.1/warehouse")
    with pytest.raises(ConfigurationError, match="is of type mysql; it must be postgres"):
        postgres("warehouse")


class _Reachable(Processes):
    """Lets a server of PostgreSQL listen on a socket in ``sockets`` and, where there is IPv6, on ::1 as well."""

    sockets: str

    def start(self, name: str, command: Sequence[str | Path], **how: Any) -> Process:
        addresses = "127.0.0.1,::1" if HAS_IPV6 else "127.0.0.1"
        more = {
            "listen_addresses=": f"listen_addresses={addresses}",
            "unix_socket": f"unix_socket_directories={self.sockets}",
        }
        return super().start(
            name, [next((new for old, new in more.items() if str(one).startswith(old)), one) for one in command], **how
        )


@pytest.fixture(scope="module")
def admitting_few() -> Iterator[Postgres]:
    """A cluster whose pg_hba.conf admits to the database postgres only, on 127.0.0.1, on ::1 and on a socket."""
    folder = server_folder("admitting-few")
    processes = _Reachable(folder / "processes.json")
    with tempfile.TemporaryDirectory(prefix="Sockets in Here ", dir="/tmp") as processes.sockets:  # a short name
        Path(processes.sockets).chmod(0o777)
        postgres = Postgres(processes, folder / "postgres").start()
        postgres.stop()
        (postgres.data / "pg_hba.conf").write_text(
            "host postgres all 127.0.0.1/32 scram-sha-256\nhost postgres all ::1/128 scram-sha-256\n"
            "local postgres all scram-sha-256\n"
        )
        try:
            yield postgres.start()
        finally:
            processes.stop_all()


def test_a_server_that_admits_nobody_names_its_rules(monkeypatch: pytest.MonkeyPatch, admitting_few: Postgres) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", admitting_few.url("postgres"))
    postgres("warehouse").close()
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", admitting_few.url("template1"))
    with pytest.raises(
        ConfigurationError, match=r'pg_hba\.conf.*add one for the database "template1", the role "postgres"'
    ):
        postgres("warehouse")


def _reach(url: str) -> set[Any]:
    """Where libpq and SQLAlchemy's drivers, with which the warehouse and Airflow's database are used, get to."""
    from sqlalchemy import create_engine, pool

    with postgres("warehouse") as connection:
        found = {connection.execute("SELECT inet_server_addr()::text").fetchone()}
    for driver in ("psycopg", "psycopg2"):
        engine = create_engine(url.replace("postgresql:", f"postgresql+{driver}:", 1), poolclass=pool.NullPool)
        with engine.connect() as engaged:
            found.add(tuple(engaged.exec_driver_sql("SELECT inet_server_addr()::text").one()))
    return found


@needs_ipv6
@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_is_reached_by_ipv6(monkeypatch: pytest.MonkeyPatch, admitting_few: Postgres, as_json: bool) -> None:
    facts = {"conn_type": "postgres", "host": "::1", "port": admitting_few.port, "schema": "postgres"}
    facts |= {"login": "postgres", "password": admitting_few.superuser_password}
    uri = admitting_few.url("postgres").replace("127.0.0.1", "[::1]")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts) if as_json else uri)
    assert postgres_url("warehouse") == uri
    assert _reach(postgres_url("warehouse")) == {("::1/128",)}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_is_reached_through_its_socket(
    monkeypatch: pytest.MonkeyPatch, admitting_few: Postgres, as_json: bool
) -> None:
    assert isinstance(admitting_few.processes, _Reachable)
    folder = admitting_few.processes.sockets
    facts = {"conn_type": "postgres", "host": folder, "port": admitting_few.port, "schema": "postgres"}
    facts |= {"login": "postgres", "password": admitting_few.superuser_password}
    uri = admitting_few.url("postgres").replace("127.0.0.1", quote(folder, safe=""))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts) if as_json else uri)
    assert (details("warehouse").host, details("warehouse").port) == (folder, admitting_few.port)
    assert _reach(postgres_url("warehouse")) == {(None,)}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts | {"port": 1}))
    with pytest.raises(SourceUnavailable, match=rf"warehouse \({folder}:1/postgres\) cannot be reached"):
        postgres("warehouse")


def test_a_missing_right_to_connect_names_the_statement_that_gives_it(
    monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    name = f"Closed-{uuid.uuid4().hex[:12]}"
    role, database = f'"role of {name}"', f'"{name}"'
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", databases.postgres.url(quote(name), quote(role[1:-1]), "hunter2"))
    databases.create(name, "escrow_owner")
    with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {role} PASSWORD 'hunter2'".encode())
        try:
            for remedy in (f"ALTER ROLE {role} LOGIN", f"GRANT CONNECT ON DATABASE {database} TO {role}"):
                with pytest.raises(ConfigurationError, match=f"refused the connection.*; run {remedy}$") as refused:
                    postgres("warehouse")
                assert "hunter2" not in str(refused.value)
                superuser.execute(remedy.encode())
            with postgres("warehouse") as connection:
                assert connection.execute("SELECT current_database()").fetchone() == (name,)
        finally:
            databases.drop(name)
            superuser.execute(f"DROP ROLE {role}".encode())


def test_redis_answers(monkeypatch: pytest.MonkeyPatch, servers: dict[str, int | str]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{servers['redis']}/3")
    client = redis()
    assert client.ping()
    assert client.connection_pool.connection_kwargs["db"] == 3


def test_redis_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                met.append(caller.getpeername())
                caller.close()

        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(exceptions.ConnectionError):
            redis().ping()
        server.shutdown(socket.SHUT_RDWR)
    assert len(met) == 1


def test_folders_are_local_or_object_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def given(extra: dict[str, object]) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_REPORTS", json.dumps({"conn_type": "fs", "extra": extra}))

    given({"path": str(tmp_path)})
    files, path = folder("reports")
    files.pipe_file(f"{path}/new/report.md", b"x")
    assert (tmp_path / "new" / "report.md").read_bytes() == b"x"
    given({"path": "var/reports"})
    assert folder("reports")[1] == str(ROOT / "var" / "reports")
    given({"url": "memory://bucket/prefix"})
    files, path = folder("reports")
    files.pipe_file(f"{path}/report.md", b"y")
    assert files.cat_file(f"{path}/report.md") == b"y"
    given({})
    with pytest.raises(ConfigurationError, match="reports needs an extra of"):
        folder("reports")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sfpt://backup:hunter2@nas/x", "cannot open its url of the protocol sfpt: the protocol is not known"),
        ("simplecache::sfpt://backup:hunter2@nas/x", "of the protocol simplecache::sfpt: the protocol is not known"),
        ("hunter2:hunter2@://nas/x", "cannot open its url: the protocol is not known"),
        ("webhdfs://backup:hunter2#hunter2@nas/x", "of the protocol webhdfs: .* or the url is malformed; correct it"),
        ("missing://backup:hunter2@nas/x", 'of the protocol missing: it needs "such_a_package"; install that'),
    ],
)
def test_a_folder_that_cannot_be_opened_is_named_without_its_login(
    monkeypatch: pytest.MonkeyPatch, url: str, sentence: str
) -> None:
    known = {"class": "no_such_package.System", "err": 'it needs "such_a_package"'}
    monkeypatch.setitem(import_module("fsspec.registry").known_implementations, "missing", known)
    monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE", json.dumps({"conn_type": "fs", "extra": {"url": url}}))
    with pytest.raises(ConfigurationError, match=f"^the connection archive .*{sentence}") as refused:
        folder("archive")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__, "a log shows the original error too"


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("db", "db"),
        ("db:6432", "db:6432"),
        ("db1:5432,db2:5433", "db1:5432,db2:5433"),
        ("::1", "[::1]"),
        ("fe80::1%eth0", "[fe80::1%25eth0]"),
        ("a,::1", "a,[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_only_what_is_an_ipv6_address_gets_brackets(host: str, written: str) -> None:
    assert connections.host_in_url(host) == written


def test_every_option_of_libpq_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"sslmode": "verify-full", "sslcrl": "/etc/crl.pem", "channel_binding": "require", "connect_timeout": "3"}
    given |= {"require_auth": "scram-sha-256", "gssencmode": "disable", "target_session_attrs": "read-write"}
    given |= {"hostaddr": "10.0.0.1", "passfile": "/run/pass word", "krbsrvname": "pg", "application_name": "a&b"}
    facts = {"conn_type": "postgres", "host": "db", "login": "ops", "password": "p@ss", "schema": "warehouse"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(facts | {"extra": given}))
    where = {"host": "db", "user": "ops", "password": "p@ss", "dbname": "warehouse"}
    assert psycopg.conninfo.conninfo_to_dict(postgres_url("warehouse")) == where | given
    assert connections.libpq_environment(postgres_url("warehouse")) == {
        "PGHOST": "db",
        "PGUSER": "ops",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "warehouse",
        "PGSSLMODE": "verify-full",
        "PGSSLCRL": "/etc/crl.pem",
        "PGCHANNELBINDING": "require",
        "PGCONNECT_TIMEOUT": "3",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGGSSENCMODE": "disable",
        "PGTARGETSESSIONATTRS": "read-write",
        "PGHOSTADDR": "10.0.0.1",
        "PGPASSFILE": "/run/pass word",
        "PGKRBSRVNAME": "pg",
        "PGAPPNAME": "a&b",
    }


@pytest.mark.parametrize("option", ["chanel_binding=require", "ssl=maybe"])
def test_an_option_that_libpq_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgresql://ops:hunter2@db/warehouse?{option}")
    name = option.partition("=")[0]
    with pytest.raises(ConfigurationError, match=f"^the connection warehouse has the option {name}, which") as refused:
        postgres("warehouse")
    assert "hunter2" not in str(refused.value)


def test_the_options_of_a_connection_go_before_our_own(monkeypatch: pytest.MonkeyPatch, databases: Databases) -> None:
    url = databases.postgres.url("postgres")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"{url}?application_name=nightly&require_auth=scram-sha-256")
    with postgres("warehouse") as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("nightly",)
    for option, said in (("require_auth=md5", "authentication method requirement .* failed"),
                         ("channel_binding=require", "channel binding (is )?required"),
                         ("sslmode=require", "server does not support SSL, but SSL was required"),
                         ("sslmode=maybe", 'invalid sslmode value: "maybe"')):  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"{url}?{option}")
        sentence = (
            rf"refused the connection: one of its options, sslmode or the like, cannot be met \({said}.*\); correct"
        )
        with pytest.raises(ConfigurationError, match=sentence):
            postgres("warehouse")


def test_nobody_puts_a_function_before_those_of_the_server(
    monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    name = f"planted_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    url = f"{databases.postgres.url(name)}?options=-c%20search_path%3Dpublic"
    planted = "CREATE FUNCTION public.quote_ident(name) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$"
    asked = "SELECT quote_ident(relname) FROM pg_catalog.pg_class WHERE relname = 'pg_class'"
    try:
        for connection_id in ("platform_db", "platform_db_maintenance", "platform_db_replica_a", "elsewhere"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", url)
            for autocommit in (True, False):
                with postgres(connection_id, autocommit=autocommit) as connection:
                    assert connection.autocommit is autocommit
                    connection.execute(planted.replace("CREATE", "CREATE OR REPLACE", 1).encode())
                    assert connection.execute(asked).fetchone() == ("pg_class",)
                    connection.rollback()
                    assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)
                    connection.execute("CREATE TEMPORARY TABLE restored_rows (n integer)")
                    assert connection.execute("SELECT count(*) FROM restored_rows").fetchone() == (0,)
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", url)
        with postgres("warehouse") as connection:
            assert connection.execute("SHOW search_path").fetchone() == ("public",)
    finally:
        databases.drop(name)
