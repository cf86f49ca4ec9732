"""The check of the source contract finds every kind of problem, and what it proposes mends them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from psycopg.rows import dict_row

from demo.databases import Databases
from demo.platform import database
from include.outcome import ConfigurationError
from include.platform import __main__ as command
from include.platform import contract
from include.platform.contract import Kind


@pytest.fixture
def escrow(databases: Databases, environment: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """The platform's own schema in a database of the test's; yields its owner. platform_db leads to it."""
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    database.install(databases.url(name, "escrow_owner"))
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", databases.url(name, "operations_reader"))
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as owner:
        yield owner
    databases.drop(name)


@pytest.fixture
def reader(escrow: psycopg.Connection, databases: Databases) -> Iterator[psycopg.Connection]:
    with psycopg.connect(databases.url(escrow.info.dbname, "operations_reader"), autocommit=True) as connection:
        yield connection


def only(found: list[contract.Problem]) -> contract.Problem:
    assert len(found) == 1, found
    return found[0]


def test_the_whole_contract_is_read() -> None:
    views = contract.contract()
    assert list(views) == [
        "users", "sessions", "page_views", "transactions", "fees", "support_tickets", "feedback",
        "authentication_events", "audit_logs",
    ]  # fmt: skip
    assert [column.name for column in views["users"]] == ["user_id", "registered_at", "verified_at"]
    assert sum(map(len, views.values())) == 39
    assert contract.CONTRACT.read_text().count("NULL::") == 39
    types = {column.name: column.accepted for column in views["feedback"]}
    assert types["feedback_id"] == ("bigint", "integer", "uuid", "text", "character varying")
    assert types["given_at"] == ("timestamp with time zone",)
    assert types["rating"] == ("integer", "smallint", "bigint")


def test_the_demo_platform_meets_it(reader: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert contract.problems(reader) == []
    contract.require(reader)
    contract.require(reader, "users", "fees")
    assert command.check() == 0
    assert "9 views" in capsys.readouterr().out


def test_the_contract_file_itself_is_valid_sql(databases: Databases) -> None:
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as owner:
        owner.execute(contract.CONTRACT.read_bytes())
        assert contract.problems(owner) == []
    databases.drop(name)


def test_missing_view(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("DROP VIEW operations.fees")
    problem = only(contract.problems(reader))
    assert (problem.view, problem.column, problem.kind) == ("fees", "", Kind.MISSING_VIEW)
    assert "<expression>::numeric AS amount_usd FROM <your table>" in problem.fix
    assert "SCHEMA" not in problem.fix, "it is there, and may be used"
    with pytest.raises(ConfigurationError, match=r"operations\.fees: the view does not exist.*CREATE VIEW"):
        contract.require(reader, "users", "fees")
    contract.require(reader, "users", "sessions")


@pytest.mark.parametrize("missing", ["DROP SCHEMA operations CASCADE", "REVOKE USAGE ON SCHEMA operations FROM {}"])
def test_the_fix_of_a_missing_view_makes_it_readable(
    escrow: psycopg.Connection, reader: psycopg.Connection, databases: Databases, missing: str
) -> None:
    escrow.execute("DROP VIEW operations.fees")
    escrow.execute(missing.format("operations_reader").encode())
    if "DROP" in missing:  # the owner of the platform's tables may not create schemas until then
        with psycopg.connect(databases.postgres.url(escrow.info.dbname), autocommit=True) as superuser:
            superuser.execute(f"GRANT CREATE ON DATABASE {escrow.info.dbname} TO escrow_owner".encode())
    problem = next(one for one in contract.problems(reader) if one.view == "fees")
    assert problem.kind is Kind.MISSING_VIEW
    fix = problem.fix.replace("<expression>", "NULL").replace("<your table>", "public.fees")
    escrow.execute(fix.encode())
    assert [one for one in contract.problems(reader) if one.view == "fees"] == []
    assert reader.execute("SELECT count(amount_usd) FROM operations.fees").fetchone() == (0,)


def test_the_rows_of_the_callers_connection_may_be_dictionaries(
    escrow: psycopg.Connection, databases: Databases
) -> None:
    escrow.execute("DROP VIEW operations.fees")
    url = databases.url(escrow.info.dbname, "operations_reader")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        assert only(contract.problems(connection)).kind is Kind.MISSING_VIEW


def test_missing_column(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("DROP VIEW operations.users")
    escrow.execute("CREATE VIEW operations.users AS SELECT user_id, registered_at FROM public.users")
    escrow.execute("GRANT SELECT ON operations.users TO operations_reader")
    problem = only(contract.problems(reader))
    assert (problem.view, problem.column, problem.kind) == ("users", "verified_at", Kind.MISSING_COLUMN)
    with pytest.raises(ConfigurationError, match=r"operations\.users, column verified_at: the column does not exist"):
        contract.require(reader, "users")
    escrow.execute(problem.fix.replace("<expression>", "NULL").encode())
    assert contract.problems(reader) == []


def test_wrong_types_are_all_named_and_mended_at_once(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("DROP VIEW operations.feedback")
    escrow.execute(
        """CREATE VIEW operations.feedback AS
           SELECT feedback_id, given_at::timestamp AS given_at, rating::text AS rating FROM public.feedback"""
    )
    escrow.execute("GRANT SELECT ON operations.feedback TO operations_reader")
    found = contract.problems(reader)
    assert [(one.column, one.kind) for one in found] == [
        ("given_at", Kind.WRONG_TYPE),
        ("rating", Kind.WRONG_TYPE),
    ]
    assert found[0].detail == "the type is timestamp without time zone; it should be timestamp with time zone"
    assert contract.table(found).count("DROP VIEW") == 1
    escrow.execute("INSERT INTO users (email, full_name, registered_at) VALUES ('a@b.example', 'A', now())")
    escrow.execute("INSERT INTO feedback (user_id, given_at, rating) VALUES (1, '2026-10-03 12:00+00', 4)")
    escrow.execute(found[0].fix.encode())
    assert contract.problems(reader) == []
    assert reader.execute("SELECT rating, given_at = '2026-10-03 12:00+00' FROM operations.feedback").fetchone() == (
        4,
        True,
    )


def test_all_fixes_together_mend_everything(
    escrow: psycopg.Connection, reader: psycopg.Connection, databases: Databases
) -> None:
    for statement in (
        "DROP VIEW operations.users, operations.sessions, operations.fees, operations.feedback, operations.page_views",
        "DROP VIEW operations.audit_logs",
        "CREATE VIEW operations.users AS SELECT user_id FROM public.users",
        """CREATE VIEW operations.sessions AS
           SELECT started_at::timestamp AS started_at, 7::numeric AS user_id, 7 AS "Beside it" FROM public.sessions""",
        "CREATE TABLE operations.fees (fee_id text, amount_usd text)",
        "INSERT INTO operations.fees VALUES ('a', '12.50')",
        """CREATE MATERIALIZED VIEW operations.feedback AS
           SELECT feedback_id, rating::text AS rating FROM public.feedback""",
        "CREATE UNIQUE INDEX feedback_key ON operations.feedback (feedback_id)",
        "CREATE MATERIALIZED VIEW operations.page_views AS SELECT user_id, viewed_at FROM public.page_views",
        "GRANT SELECT ON ALL TABLES IN SCHEMA operations TO operations_reader",
        "REVOKE SELECT ON operations.transactions FROM operations_reader",
    ):
        escrow.execute(statement.encode())
    with psycopg.connect(databases.postgres.url(escrow.info.dbname), autocommit=True) as superuser:
        superuser.execute("CREATE EXTENSION postgres_fdw")
        place = f"host '127.0.0.1', port '{databases.postgres.port}', dbname '{escrow.info.dbname}'"
        login = f"user 'escrow_owner', password '{databases.passwords['escrow_owner']}'"
        superuser.execute(f"CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({place})".encode())
        superuser.execute(f"CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS ({login})".encode())
        superuser.execute(
            """CREATE FOREIGN TABLE operations.audit_logs (audit_log_id bigint, actor xml) SERVER there
               OPTIONS (schema_name 'public')"""
        )
        superuser.execute("ALTER FOREIGN TABLE operations.audit_logs OWNER TO escrow_owner")
        superuser.execute("GRANT SELECT ON operations.audit_logs TO operations_reader")
    escrow.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'ann', 'x')")
    found = contract.problems(reader)
    assert len(found) == 2 + 3 + 3 + 2 + 1 + 3 + 1
    fixes = list(dict.fromkeys(one.fix for one in found))
    assert len(fixes) == 7, "one for each of the relations"
    table = contract.table(found)
    for fix in fixes:
        assert table.count(fix) == 1
        there = re.sub(r"ADD COLUMN (\w+)( \w+) (.*?)<column there>", r"ADD COLUMN \1\2 \3\1", fix)
        escrow.execute(there.replace("<expression>", "NULL").encode())
    assert contract.problems(reader) == []
    assert reader.execute("SELECT count(created_at), count(actor) FROM operations.audit_logs").fetchone() == (1, 1)
    assert escrow.execute("SELECT fee_id, amount_usd FROM operations.fees").fetchone() == ("a", Decimal("12.50"))
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'operations' AND indexname = 'feedback_key'"
    assert escrow.execute(indexes).fetchone() == (1,)
    described = escrow.execute("SELECT * FROM operations.sessions").description or []
    assert [column.name for column in described] == ["started_at", "user_id", "Beside it", "session_id"]


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("gen_random_uuid()", True),
        ("'a'::text", True),
        ("'a'::varchar(9)", True),
        ("1::integer", True),
        ("1::smallint", False),
        ("1::numeric", False),
    ],
)
def test_identifiers_may_be_of_several_types(
    escrow: psycopg.Connection, reader: psycopg.Connection, expression: str, accepted: bool
) -> None:
    escrow.execute("DROP VIEW operations.sessions")
    escrow.execute(
        f"""CREATE VIEW operations.sessions AS
            SELECT {expression} AS session_id, 1 AS user_id, now() AS started_at""".encode()
    )
    escrow.execute("GRANT SELECT ON operations.sessions TO operations_reader")
    assert (contract.problems(reader) == []) is accepted


def test_a_table_and_a_domain_serve_too(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("CREATE DOMAIN operations.money_amount AS numeric(14, 2)")
    escrow.execute("DROP VIEW operations.fees")
    escrow.execute(
        """CREATE TABLE operations.fees
           (fee_id uuid, kind varchar, charged_at timestamptz, amount_usd operations.money_amount)"""
    )
    escrow.execute("GRANT SELECT ON operations.fees TO operations_reader")
    assert contract.problems(reader) == []
    escrow.execute("ALTER TABLE operations.fees ALTER charged_at TYPE timestamp")
    problem = only(contract.problems(reader))
    assert problem.fix == (
        "ALTER TABLE operations.fees ALTER COLUMN charged_at TYPE timestamptz USING charged_at AT TIME ZONE 'UTC';"
    )
    escrow.execute(problem.fix.encode())
    assert contract.problems(reader) == []


def test_missing_privileges(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("REVOKE SELECT ON operations.users FROM operations_reader")
    problem = only(contract.problems(reader))
    assert (problem.view, problem.kind) == ("users", Kind.MISSING_PRIVILEGE)
    assert problem.fix == 'GRANT SELECT ON operations.users TO "operations_reader";'
    escrow.execute("GRANT SELECT (user_id, registered_at, verified_at) ON operations.users TO operations_reader")
    assert contract.problems(reader) == []
    escrow.execute("REVOKE USAGE ON SCHEMA operations FROM operations_reader")
    found = contract.problems(reader)
    assert {one.kind for one in found} == {Kind.MISSING_PRIVILEGE}
    assert len(found) == 9
    for one in found:
        escrow.execute(one.fix.encode())
    assert contract.problems(reader) == []


def test_a_view_that_may_not_read_its_own_table(escrow: psycopg.Connection, reader: psycopg.Connection) -> None:
    escrow.execute("ALTER VIEW operations.fees SET (security_invoker = true)")
    problem = only(contract.problems(reader))
    assert (problem.view, problem.kind) == ("fees", Kind.MISSING_PRIVILEGE)
    assert "table fees" in problem.detail
    with pytest.raises(ConfigurationError, match="security_invoker"):
        contract.require(reader, "fees")


def test_an_open_transaction_survives(escrow: psycopg.Connection, databases: Databases) -> None:
    escrow.execute("ALTER VIEW operations.fees SET (security_invoker = true)")
    with psycopg.connect(databases.url(escrow.info.dbname, "operations_reader")) as connection:
        connection.execute("SET LOCAL application_name = 'kept'")
        assert len(contract.problems(connection)) == 1
        assert connection.execute("SHOW application_name").fetchone() == ("kept",)


def test_the_table_for_people(escrow: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    escrow.execute("DROP VIEW operations.fees")
    escrow.execute("REVOKE SELECT ON operations.users FROM operations_reader")
    assert command.check() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["view", "column", "problem", "fix"]
    assert lines[2].startswith("operations.users")
    assert "missing privilege" in lines[2]
    assert "GRANT SELECT" in lines[2]
    assert "missing view" in lines[3]
    assert "2 problem(s)" in lines[-1]


def test_without_a_connection(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("AIRFLOW_CONN_PLATFORM_DB", raising=False)
    environment.setattr("sys.modules", {})
    assert command.check() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "platform_db" in said.err
    assert "AIRFLOW_CONN_PLATFORM_DB" in said.err


def test_a_view_that_the_contract_does_not_have(reader: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="no view invoices"):
        contract.require(reader, "invoices")


def test_the_documentation_names_every_view_and_column() -> None:
    text = (contract.CONTRACT.parents[2] / "docs" / "source-contract.md").read_text(encoding="utf-8")
    for view, columns in contract.contract().items():
        section = text.split(f"### operations.{view}\n")[1].split("\n### ")[0]
        for column in columns:
            assert f"| `{column.name}` | {column.type} |" in section
