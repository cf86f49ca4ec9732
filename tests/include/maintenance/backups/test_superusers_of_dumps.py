"""What only a superuser can own comes back from a dump, whatever the name of production's superuser is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.backups import backup_sources, full_restoration
from include.outcome import ConfigurationError
from include.platform import backup_facts, backups, estate_backup, postgres_binaries
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import DEFAULT_FILE, settings
from include.warehouse import drills
from tests.include.maintenance.backups.backup_platform import configure, stages, verified

DUMP: dict[str, Any] = {"name": "nightly", "format": "custom", "files": "*.dump"}
_OWNED = """
SET SESSION AUTHORIZATION app;
CREATE TABLE people AS SELECT n AS person_id FROM generate_series(1, 300) AS n;
ALTER TABLE people ADD PRIMARY KEY (person_id);
CREATE TABLE orders AS SELECT 1 AS person_id;
ALTER TABLE orders ADD FOREIGN KEY (person_id) REFERENCES people;
RESET SESSION AUTHORIZATION;
CREATE TABLE of_postgres (n integer);
ALTER TABLE of_postgres OWNER TO postgres;
CREATE TABLE ddl_log (tag text);
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ddl_log VALUES (tg_tag); END $$;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE EVENT TRIGGER of_gold ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE VIEW', 'CREATE SCHEMA', 'CREATE MATERIALIZED VIEW') EXECUTE FUNCTION watch();
CREATE VIEW counted AS SELECT count(*) AS people FROM people;
SET SESSION AUTHORIZATION dba;
CREATE SCHEMA dba;
CREATE MATERIALIZED VIEW dba.counted AS SELECT count(*) AS people FROM public.people;
CREATE EVENT TRIGGER of_dba ON ddl_command_end WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION public.watch();
"""


@pytest.fixture(scope="module", params=[18, 15])
def gold(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    """A server that was made with the role gold; dba is another superuser, and postgres is an ordinary role."""
    try:
        postgres_binaries.find(request.param)
    except ConfigurationError as error:
        pytest.skip(str(error))
    with scratch_place("tests of superusers") as place:
        server = new_server(place, "primary", request.param)
        server.superuser = "gold"
        server.initialise()
        server.start()
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE app; CREATE ROLE postgres LOGIN; CREATE ROLE dba SUPERUSER")
            superuser.execute("CREATE DATABASE escrow OWNER app")
        with server.connect("escrow") as superuser:
            superuser.execute(_OWNED)
        yield server


def _url(server: ScratchServer) -> str:
    return f"postgresql://gold@/escrow?host={server.sockets}&port=5432"


def _restored_superusers() -> tuple[str, list[str]]:
    """The role that the server of a restored dump was made with, and all of its superusers."""
    origin = backup_sources.origin_of(backups.source_of("nightly"))
    with scratch_place("tests of superusers") as place:
        session = origin.open(origin.newest()[0], place, 1)
        for _, step in session.before():
            step()
        with session.restored.server.connect() as connection:
            row = connection.execute(
                "SELECT oid::regrole::text, (SELECT array_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolsuper)"
                " FROM pg_roles WHERE oid = 10"
            ).fetchone()
    assert row is not None
    return row[0], [str(name) for name in row[1]]


def test_a_dump_with_what_only_superusers_own_passes(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, gold: ScratchServer, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP, query="SELECT people = 300 FROM counted")
    backups.take(_url(gold), tmp_path / "backups", "a.dump")
    facts = backups.read_facts("a.dump")
    assert facts is not None
    assert (facts.roles, facts.superusers) == (["gold", "app", "dba", "postgres"], ["gold", "dba"])
    drill, said = verified("nightly", "r1")
    assert said == ""
    # Of the log a view, a schema and a materialized view: no trigger fires while foreign keys come back.
    assert stages(drill)["row_counts"].detail == {"tables": 4, "rows": 300 + 1 + 3, "exact": True}
    assert _restored_superusers() == ("gold", ["dba", "gold"]), "app and postgres are what they were"


def test_facts_of_earlier_releases_tell_the_role_that_the_server_was_made_with(
    environment: pytest.MonkeyPatch, gold: ScratchServer, tmp_path: Path
) -> None:
    if gold.major != 18:
        pytest.skip("one version is enough: what the facts tell is the same")
    configure(environment, tmp_path, DUMP)
    dump = backups.take(_url(gold), tmp_path / "backups", "a.dump")
    facts = backups.read_facts("a.dump")
    assert facts is not None
    database = {name: value for name, value in facts.database.items() if name != "superusers"}
    record = dump.with_name(f"a.dump{backup_facts.SUFFIX}")
    record.write_text(backup_facts.to_json(replace(facts, database=database)))
    assert _restored_superusers() == ("gold", ["gold"])
    record.unlink()
    assert _restored_superusers() == ("postgres", ["postgres"]), "without facts the owners are ordinary roles"


def test_facts_without_roles_tell_no_superuser() -> None:
    at = datetime(2026, 10, 2, tzinfo=UTC)
    facts = backup_facts.Facts("a.dump", "custom", 180000, at, at, {"superusers": ["gold"]}, [], {}, [])
    assert facts.superusers == []


def test_the_roles_of_such_a_server_are_restored_too(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, gold: ScratchServer, tmp_path: Path
) -> None:
    """The roles' dump says that postgres is no superuser, which a server refuses for the role it was made with."""
    if gold.major != 18:
        pytest.skip("earlier versions than 16 do not refuse it")
    configure(environment, tmp_path, DUMP, query="SELECT people = 300 FROM counted")
    environment.setenv("OPERATIONS__RESTORATION__CONFIGURATION", "")
    settings.cache_clear()
    backups.take(_url(gold), tmp_path / "backups", "a.dump")
    estate_backup.take(_url(gold), tmp_path / "backups", "20261001", DEFAULT_FILE)
    assert full_restoration.rehearse("nightly", "r1", datetime.now(UTC))["outcome"] == "passed"
    assert stages(drills.find("full_restoration", "nightly", "r1"))["globals"].detail["roles"] == 4
