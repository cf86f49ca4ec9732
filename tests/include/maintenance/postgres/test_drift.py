"""Definitions that changed since last month, on real servers."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import drift
from include.outcome import Outcome
from include.platform import definitions
from include.warehouse import snapshots
from include.warehouse.findings import Finding
from include.warehouse.snapshots import Change
from tests.recorded_findings import latest_findings

OCTOBER, NOVEMBER = datetime(2026, 10, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 4, tzinfo=UTC)


def found() -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings("definition_drift")}


@pytest.fixture
def role(any_databases: Databases) -> Iterator[str]:
    """A role of the cluster that the test may change."""
    name = f"auditor_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(any_databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        superuser.execute(f"DROP ROLE {name}")


def test_the_first_month_is_a_baseline_and_no_verdict(any_platform: psycopg.Connection) -> None:
    assert drift.take("run 1", OCTOBER) == {"snapshot": 1, "month": "2026-10", "unreadable": ["access_rule"]}
    drift.check("run 1")
    assert found()["baseline"].outcome is Outcome.NOT_APPLICABLE
    assert "baseline of 2026-10 recorded" in found()["baseline"].summary
    assert found()["access_rule"].outcome is Outcome.UNKNOWN
    assert "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO operations_maintainer" in found()["access_rule"].remedy


def test_the_grant_in_the_remedy_works(
    any_platform: psycopg.Connection, any_databases: Databases, warehouse: psycopg.Connection
) -> None:
    drift.take("run 1", OCTOBER)
    drift.check("run 1")
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute(found()["access_rule"].remedy)
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    assert found()["access_rule"].outcome is Outcome.NOT_APPLICABLE, "read now, but not last month"
    assert found()["access_rule"].evidence["definitions"] > 0


@pytest.fixture
def rules(any_platform: psycopg.Connection, any_databases: Databases) -> Iterator[Path]:
    """The pg_hba.conf of the server, which shows the file as it is now but goes on with the rules it has read."""
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute("GRANT SELECT ON pg_catalog.pg_hba_file_rules TO operations_maintainer")
        superuser.execute("GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO operations_maintainer")
        [(name,)] = superuser.execute("SHOW hba_file")
    path = Path(name)
    before = path.read_text()
    path.write_text(f"{before}host all guest 10.0.0.0/8 trust\n")
    yield path
    path.write_text(before)


GUEST = "host all guest 10.0.0.0 255.0.0.0"


def test_a_rule_of_access_is_known_by_what_it_matches(rules: Path, warehouse: psycopg.Connection) -> None:
    drift.take("run 1", OCTOBER)
    rules.write_text("# a comment moves every line\n" + rules.read_text())
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    assert found()["access_rule"].outcome is Outcome.OK, found()["access_rule"].summary
    rules.write_text(f"host all guest 10.0.0.0/8 reject\n{rules.read_text()}host all all 0.0.0.0/0 ldap nonsense\n")
    drift.take("run 3", datetime(2026, 12, 1, 4, tzinfo=UTC))
    warehouse.execute("DELETE FROM ops.platform_snapshot WHERE run_id = 'run 1'")
    drift.check("run 3")
    evidence = found()["access_rule"].evidence
    assert [one["name"] for one in evidence["added"]] == ["broken line #1", f"{GUEST} #2"]
    assert evidence["added"][0]["after"].startswith("error: ")
    assert evidence["added"][1]["after"] == f"{GUEST} trust"
    assert [one["name"] for one in evidence["changed"]] == [f"{GUEST} #1", "order of the rules"]
    assert evidence["changed"][0] == {"name": f"{GUEST} #1", "before": f"{GUEST} trust", "after": f"{GUEST} reject"}
    assert found()["access_rule"].outcome is Outcome.CRITICAL
    assert f"{GUEST} #2 of pg_hba.conf lets connections in without a password" in found()["access_rule"].summary


def test_rules_of_access_in_another_order_have_changed(rules: Path) -> None:
    drift.take("run 1", OCTOBER)
    *others, guest = rules.read_text().splitlines()
    rules.write_text("\n".join([guest, *others, ""]))
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    assert [one["name"] for one in found()["access_rule"].evidence["changed"]] == ["order of the rules"]
    assert found()["access_rule"].outcome is Outcome.WARNING


def test_included_rules_of_access_have_lines_of_their_own(
    rules: Path, any_platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    if any_platform.info.server_version < 160000:
        pytest.skip("pg_hba.conf includes files since PostgreSQL 16")
    for name in ("one", "two"):
        included = rules.with_name(f"{name}.conf")
        included.write_text("host all all 192.0.2.0/24 reject\n")
        included.chmod(0o644)
        rules.write_text(f"{rules.read_text()}include {included}\n")
    drift.take("run 1", OCTOBER)
    names = "SELECT name FROM ops.platform_definition WHERE kind = 'access_rule' AND name LIKE '%192.0.2.0%' ORDER BY 1"
    matches = "host all all 192.0.2.0 255.255.255.0"
    assert warehouse.execute(names).fetchall() == [(f"{matches} #1",), (f"{matches} #2",)]


def test_what_changed_since_last_month_is_listed(any_platform: psycopg.Connection) -> None:
    any_platform.execute("CREATE TABLE public.kept (id integer); CREATE TABLE public.dropped (id integer)")
    any_platform.execute("CREATE VIEW public.ids AS SELECT id FROM public.kept")
    any_platform.execute("CREATE FUNCTION public.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    drift.take("run 1", OCTOBER)
    any_platform.execute("DROP TABLE public.dropped")
    any_platform.execute("ALTER TABLE public.kept ADD COLUMN extra text, ADD CHECK (id > 0) NOT VALID")
    any_platform.execute("CREATE INDEX kept_id ON public.kept (id)")
    any_platform.execute("CREATE OR REPLACE VIEW public.ids AS SELECT id FROM public.kept WHERE id > 7")
    any_platform.execute("CREATE OR REPLACE FUNCTION public.one() RETURNS integer LANGUAGE sql AS 'SELECT 2'")
    any_platform.execute("GRANT SELECT ON public.kept TO PUBLIC")
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    assert found()["table"].outcome is Outcome.WARNING
    [removed] = found()["table"].evidence["removed"]
    assert removed["name"] == "public.dropped"
    assert found()["table"].summary.endswith("0 added, 1 removed, 0 changed")
    assert {"name": "public.kept.extra", "after": "text"} in found()["column"].evidence["added"]
    assert found()["column"].evidence["removed"] == [{"name": "public.dropped.id", "before": "integer"}]
    assert [one["name"] for one in found()["index"].evidence["added"]] == ["public.kept_id"]
    assert "(not validated)" in found()["constraint"].evidence["added"][0]["after"]
    assert [one["name"] for one in found()["view"].evidence["changed"]] == ["public.ids"]
    assert [one["name"] for one in found()["function"].evidence["changed"]] == ["public.one()"]
    assert found()["grant"].evidence["added"] == [{"name": "table public.kept to PUBLIC", "after": "SELECT"}]
    assert found()["extension"].outcome is Outcome.OK
    assert found()["setting"].outcome is Outcome.OK


def test_a_run_compares_with_the_beginning_of_the_month_before_and_in_the_first_month_with_the_baseline(
    platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    drift.take("october", OCTOBER)
    platform.execute("CREATE TABLE public.a (id integer)")
    drift.take("october again", OCTOBER)
    drift.check("october again")
    assert [one["name"] for one in found()["table"].evidence["added"]] == ["public.a"]
    platform.execute("CREATE TABLE public.b (id integer)")
    drift.take("november", NOVEMBER)
    platform.execute("CREATE TABLE public.c (id integer)")
    drift.take("november again", NOVEMBER)
    drift.check("november again")
    assert [one["name"] for one in found()["table"].evidence["added"]] == ["public.a", "public.b", "public.c"]


def test_a_repeated_task_keeps_the_first_snapshot(platform: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    first = drift.take("run 1", OCTOBER)
    platform.execute("CREATE TABLE public.a (id integer)")
    assert drift.take("run 1", OCTOBER) == first
    assert warehouse.execute("SELECT count(*) FROM ops.platform_snapshot").fetchone() == (1,)


def test_a_role_that_gains_powers_is_critical(
    any_platform: psycopg.Connection, any_databases: Databases, role: str
) -> None:
    drift.take("run 1", OCTOBER)
    with psycopg.connect(any_databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} SUPERUSER")
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    assert found()["role"].outcome is Outcome.CRITICAL
    assert f"{role} has become SUPERUSER" in found()["role"].summary


def test_passwords_in_settings_never_reach_the_warehouse(
    any_platform: psycopg.Connection, any_databases: Databases, role: str, warehouse: psycopg.Connection
) -> None:
    with psycopg.connect(any_databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} SET app.api_key = 'hunter2'")
        superuser.execute(f"ALTER ROLE {role} SET app.conninfo = 'host=a password=hunter2 dbname=x'")
        superuser.execute(f"ALTER ROLE {role} SET app.conninfo_of_b = 'password=Hunter2,hunter2@hunter2 dbname=x'")
        superuser.execute(f"ALTER ROLE {role} SET app.secret = 'hunter2 hunter2'")
        superuser.execute(f"ALTER ROLE {role} SET app.url = 'postgresql://me:hunter2@host/x'")
        superuser.execute(f"ALTER ROLE {role} SET app.harmless = 'seen'")
    drift.take("run 1", OCTOBER)
    [(text,)] = warehouse.execute(
        "SELECT definition FROM ops.platform_definition WHERE kind = 'role_setting' AND name LIKE %s", (f"{role}%",)
    )
    assert "hunter2" not in text
    assert text.count("***") == 5
    assert "app.harmless=seen" in text
    assert "host=a" in text


_HOOK = (
    "CREATE TRIGGER hook AFTER INSERT ON public.orders EXECUTE FUNCTION public.send('https://example.org/in', "
    """'{{"Content-type":"application/json","Authorization":"Bearer {0}"}}', '1000')"""
)


def test_secrets_of_definitions_are_masked_and_their_changes_seen(
    any_platform: psycopg.Connection, any_databases: Databases, warehouse: psycopg.Connection
) -> None:
    any_platform.execute(
        "CREATE TABLE public.orders (id int, api_key text DEFAULT 'hunter2', state text DEFAULT 'new')"
    )
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute("CREATE FUNCTION public.send() RETURNS trigger LANGUAGE plpgsql SET app.token = 'my hunter2'"
                          " AS 'BEGIN RETURN NULL; END'")  # fmt: skip
    any_platform.execute(_HOOK.format("hunter2").encode())
    any_platform.execute("CREATE POLICY mine ON public.orders USING (state <> 'password=hunter2,hunter2@x')")
    drift.take("run 1", OCTOBER)
    any_platform.execute("DROP TRIGGER hook ON public.orders")
    any_platform.execute(_HOOK.format("hunter3").encode())
    any_platform.execute("ALTER TABLE public.orders ALTER COLUMN api_key SET DEFAULT 'hunter3'")
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    [(texts,)] = warehouse.execute(
        "SELECT string_agg(name || ' is ' || definition, chr(10)) FROM ops.platform_definition"
    )
    assert "hunter" not in texts
    assert (
        '\'https://example.org/in\', \'{"Content-type":"application/json","Authorization":"***"}\', \'1000\'' in texts
    )
    assert "public.orders.state is text DEFAULT 'new'::text\n" in f"{texts}\n"
    assert "app.token=***, text " in texts
    for kind, name in (("trigger", "public.orders: hook"), ("column", "public.orders.api_key")):
        [change] = found()[kind].evidence["changed"]
        assert change["name"] == name
        assert change["before"].rpartition(" (hash ")[0] == change["after"].rpartition(" (hash ")[0]


def test_what_was_stored_before_secrets_were_masked_is_no_change(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    any_platform.execute(
        "CREATE TABLE public.orders (api_key text DEFAULT 'hunter2', password text DEFAULT 'x', token text DEFAULT 'y')"
    )
    drift.take("run 1", OCTOBER)
    stored = "UPDATE ops.platform_definition SET definition = %s WHERE name = %s"
    warehouse.execute(stored, ("text DEFAULT 'hunter2'::text", "public.orders.api_key"))
    warehouse.execute(stored, ("text DEFAULT '***'::text", "public.orders.password"))
    warehouse.execute(stored, ("text DEFAULT 'hunter3'::text", "public.orders.token"))
    drift.take("run 2", NOVEMBER)
    drift.check("run 2")
    [change] = found()["column"].evidence["changed"]
    assert change["name"] == "public.orders.token"
    assert change["before"].startswith("text DEFAULT '***'::text (hash ")


def test_without_pg_monitor_settings_are_unknown_with_the_grant(
    any_platform: psycopg.Connection, any_databases: Databases, role: str, environment: pytest.MonkeyPatch
) -> None:
    url = any_databases.postgres.url(any_platform.info.dbname)
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {role} PASSWORD 'secret'")
        superuser.execute(f"GRANT CONNECT ON DATABASE {any_platform.info.dbname} TO {role}")
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", f"postgresql://{role}:secret@{url.split('@')[1]}")
        drift.take("run 1", OCTOBER)
        superuser.execute(f"REVOKE CONNECT ON DATABASE {any_platform.info.dbname} FROM {role}")
    drift.check("run 1")
    assert found()["setting"].outcome is Outcome.UNKNOWN
    assert found()["setting"].remedy == f"GRANT pg_read_all_settings TO {role};"


def test_dangers() -> None:
    assert drift._danger(Change("setting", "fsync", None, "off")) == "fsync is off: a crash can lose or corrupt data"
    assert drift._danger(Change("setting", "work_mem", "4096 kB", "8192 kB")) is None
    assert drift._danger(Change("role", "a", "SUPERUSER, LOGIN", "LOGIN")) is None
    assert drift._danger(Change("access_rule", "host #1", None, "host all all 0.0.0.0 0.0.0.0 trust")) is not None
    assert drift._danger(Change("access_rule", "local #1", None, "local all all trust")) is None


def test_every_kind_is_named_in_the_dictionary(warehouse: psycopg.Connection) -> None:
    [(comment,)] = warehouse.execute("SELECT col_description('ops.platform_definition'::regclass, 2)")
    assert sorted(comment.rstrip(".").replace(" or ", ", ").split(", ")) == sorted(definitions.KINDS)


def test_a_run_without_a_snapshot_is_refused(warehouse: psycopg.Connection) -> None:
    from include.outcome import ConfigurationError

    with pytest.raises(ConfigurationError, match="clear its task take_snapshot"):
        snapshots.required("nothing")


def test_without_a_snapshot_the_drift_is_unknown(platform: psycopg.Connection) -> None:
    from include.outcome import ConfigurationError

    drift.take("run 1", OCTOBER)
    drift.check("run 1")
    with pytest.raises(ConfigurationError, match="the run run 2 has no row"):
        drift.check("run 2")
    assert {name: one.outcome for name, one in found().items()} == {"the check": Outcome.UNKNOWN}
