"""The migrations go up and down, leave nothing behind, and explain every column."""

import os
import uuid
from urllib.parse import quote

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse import migrate, session

TABLES = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'ops' AND c.relkind = 'r' AND c.relname <> 'alembic_version'
"""


def _one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_up_down_and_up_again(warehouse: psycopg.Connection) -> None:
    tables = _one(warehouse, TABLES)
    assert tables == sum(path.read_text().count("CREATE TABLE ops.") for path in migrate.VERSIONS.glob("*.up.sql"))
    assert migrate.upgrade() == [], "the newest schema is not migrated again"
    migrate.downgrade("base")
    assert _one(warehouse, TABLES) == 0
    assert _one(warehouse, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'ops'::regnamespace") == 0
    assert migrate.upgrade() == sorted(path.stem for path in migrate.VERSIONS.glob("[0-9]*.py"))
    assert _one(warehouse, TABLES) == tables


def test_earlier_drills_become_acts(warehouse: psycopg.Connection) -> None:
    migrate.downgrade("0011")
    warehouse.execute(
        "INSERT INTO ops.drill (kind, resource, run_id, outcome, reason, rto_seconds, started_at, finished_at) VALUES"
        " ('failover', 'nightly', 'r1', 'passed', '', 1.5, '2026-10-04', '2026-10-05'),"
        " ('failover', 'nightly', 'r2', 'failed', 'too late', NULL, '2026-11-04', '2026-11-05'),"
        " ('failover', 'nightly', 'r3', 'running', '', NULL, '2026-12-04', NULL)"
    )
    warehouse.execute(
        "INSERT INTO ops.drill_stage (drill_id, name, position, outcome, seconds)"
        " SELECT drill_id, 'restore', 1, 'passed', 1.5 FROM ops.drill WHERE run_id = 'r1'"
    )
    acts = (
        "SELECT run_id, state, reason, proof ->> 'rto_seconds', proof -> 'stages', finished_at = date '2026-10-05'"
        " FROM ops.maintenance_action ORDER BY run_id"
    )
    for _ in range(2):
        migrate.upgrade()
        assert warehouse.execute(acts.encode()).fetchall() == [
            ("r1", "proven", "", "1.500", {"passed": 1}, True),
            ("r2", "failed", "too late", None, None, False),
            ("r3", "applying", "", None, None, None),
        ]
        migrate.downgrade("0011")
        assert _one(warehouse, "SELECT count(*) FROM ops.maintenance_action") == 0
    migrate.upgrade()


def test_every_table_and_column_has_a_comment(warehouse: psycopg.Connection) -> None:
    silent = warehouse.execute(
        """
        SELECT c.relname, a.attname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'v')
          AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT c.relname, NULL FROM pg_class c
        WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid) IS NULL
        """
    ).fetchall()
    assert silent == []


def test_roles_may_do_their_work_and_no_more(warehouse: psycopg.Connection, databases: Databases) -> None:
    name = warehouse.info.dbname
    with psycopg.connect(databases.url(name, "warehouse_writer"), autocommit=True) as writer:
        writer.execute("INSERT INTO ops.daily_feedback VALUES ('2026-10-03', 1, 5, 0, 0, 0, 0, 1)")
        for refused in (
            "CREATE TABLE ops.x ()",
            "DROP TABLE ops.report",
            "UPDATE ops.alembic_version SET version_num = 'x'",
            "DELETE FROM ops.signal",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                writer.execute(refused)
    with psycopg.connect(databases.url(name, "warehouse_reader"), autocommit=True) as reader:
        assert _one(reader, "SELECT rating_average FROM ops.daily_feedback") == 5
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM ops.daily_feedback")


def test_the_logins_of_the_connections_get_their_rights(
    warehouse: psycopg.Connection, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    name = warehouse.info.dbname
    roles = {kind: f"{kind} of {uuid.uuid4().hex[:12]}" for kind in ("WAREHOUSE", "WAREHOUSE_READER")}
    for kind, role in roles.items():
        environment.setenv(f"AIRFLOW_CONN_{kind}", databases.postgres.url(name, quote(role), "secret"))
    with pytest.raises(ConfigurationError, match="server has no role WAREHOUSE of .*, the login of the connection"):
        migrate.upgrade()
    with psycopg.connect(databases.postgres.url(name), autocommit=True) as superuser:
        for role in roles.values():
            superuser.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret'".encode())
            superuser.execute(f'GRANT CONNECT ON DATABASE {name} TO "{role}"'.encode())
        try:
            migrate.upgrade()
            with session.transaction() as writer:
                writer.execute("INSERT INTO ops.daily_feedback VALUES ('2026-10-03', 1, 5, 0, 0, 0, 0, 1)")
            with session.transaction("warehouse_reader") as reader:
                assert _one(reader, "SELECT rating_average FROM ops.daily_feedback") == 5
            for connection_id, refused in (("warehouse", "ops.signal"), ("warehouse_reader", "ops.daily_feedback")):
                with (
                    pytest.raises(ConfigurationError, match="lacks a privilege"),
                    session.transaction(connection_id) as connection,
                ):
                    connection.execute(f"DELETE FROM {refused}".encode())
        finally:
            for role in roles.values():
                superuser.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())


def test_an_owner_who_writes_too_keeps_every_right(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    owner = os.environ["AIRFLOW_CONN_WAREHOUSE_OWNER"]
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", owner)
    migrate.upgrade()
    warehouse.execute("DELETE FROM ops.signal")


def test_a_wrong_connection_is_one_sentence(environment: pytest.MonkeyPatch, databases: Databases) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_OWNER", databases.postgres.url("nowhere"))
    with pytest.raises(ConfigurationError, match="warehouse_owner .* refused the connection"):
        migrate.upgrade()
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_OWNER", "postgresql://x:y@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match="warehouse_owner .* cannot be reached"):
        migrate.upgrade()
