"""Tables that are made, changed and dropped while a backup is taken neither spoil it nor count as damage."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.backups import backup_checks
from include.platform import backup_facts, backups, postgres_binaries
from include.platform.backup_facts import Facts, TableFacts
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import settings
from include.warehouse.drills import StageOutcome
from tests.include.maintenance.backups.backup_platform import TABLES, configure, filled_database, stages, verified

BASE: dict[str, Any] = {"name": "base", "format": "base", "files": "base-*"}
MEANWHILE = """
DROP TABLE visits_2026;
CREATE TABLE visits_2027 PARTITION OF visits FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
INSERT INTO visits VALUES ('2027-01-01', 1);
DELETE FROM visits_2027;
INSERT INTO visits VALUES ('2027-01-02', 2);
ALTER TABLE letters RENAME expires_at TO ends_at;
CREATE OR REPLACE FUNCTION shout(word text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(word || '!') $$;
"""


@pytest.fixture
def primary() -> Iterator[ScratchServer]:
    """A small server of the test's own; a base backup of it takes a second."""
    with scratch_place("tests of changes during backups") as place:
        server = new_server(place, "primary", postgres_binaries.newest()[0])
        server.initialise()
        server.start({"wal_level": "replica", "max_wal_senders": "4", "fsync": "off"}, durable=True)
        with server.connect() as superuser:
            for role in ("escrow_owner", "operations_reader", "operations_maintainer"):
                superuser.execute(f"CREATE ROLE {role}".encode())
            superuser.execute("CREATE DATABASE escrow")
        with server.connect("escrow") as owner:
            owner.execute(TABLES)
        yield server


def _replaced(environment: pytest.MonkeyPatch, tmp_path: Path, program: str, script: str) -> None:
    """Let backups be taken with a script in place of one of PostgreSQL's programs; ``REAL`` is the folder of these."""
    major, real = postgres_binaries.newest()
    folder = tmp_path / "programs"
    folder.mkdir()
    for path in real.iterdir():
        if path.name != program:
            (folder / path.name).symlink_to(path)
    (folder / program).write_text(f"#!{sys.executable}\nREAL = {str(real)!r}\n{script}")
    (folder / program).chmod(0o755)
    environment.setenv("OPERATIONS__BACKUPS__POSTGRES_BINARIES", json.dumps({major: str(folder)}))
    settings.cache_clear()


def _url(server: ScratchServer) -> str:
    return f"postgresql://postgres@/escrow?host={server.sockets}&port=5432"


@pytest.mark.parametrize("when", ["before its end", "after its end"])
def test_a_base_backup_during_which_partitions_come_and_go(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path, when: str
) -> None:
    configure(environment, tmp_path, BASE, newest_row_columns={"public.letters": "expires_at"})
    steps = ["with psycopg.connect(URL, autocommit=True) as owner: owner.execute(SQL)",
             'subprocess.run([REAL + "/pg_basebackup", *sys.argv[1:]], check=True)']  # fmt: skip
    began, ended = (f"with psycopg.connect(URL, autocommit=True) as owner: owner.execute('{statement}')"
                    for statement in ("CREATE VIEW fleeting AS SELECT 1 AS n", "DROP VIEW fleeting"))  # fmt: skip
    script = "\n".join([began, *(steps if when == "before its end" else reversed(steps)), ended])
    _replaced(
        environment, tmp_path, "pg_basebackup",
        f"import subprocess, sys, psycopg\nURL = {_url(primary)!r}\nSQL = {MEANWHILE!r}\n{script}\n",
    )  # fmt: skip
    backups.take(_url(primary), tmp_path / "backups", "base-1", "base")
    environment.delenv("OPERATIONS__BACKUPS__POSTGRES_BINARIES")
    configure(environment, tmp_path, BASE)
    facts = backups.read_facts("base-1")
    assert facts is not None
    assert ("table", "public.visits_2026") in facts.changed_meanwhile
    assert ("table", "public.visits_2027") in facts.changed_meanwhile
    assert ("table", "public.people") not in facts.changed_meanwhile
    assert {"public.visits_2026", "public.visits_2027"} & set(facts.tables) == {"public.visits_2027"}
    assert facts.bounds("public.visits_2027") == (0, 2, True), "two rows came and one of them went"
    drill, said = verified("base", "r1")
    assert said == ""
    detail = stages(drill)["catalog"].detail
    assert "table public.visits_2027" in detail["changed_while_it_was_taken"]
    assert "view public.fleeting" in detail["there_neither_before_nor_after_it"]
    assert ("function", "public.shout(word text)") in facts.there_throughout


def test_rows_of_a_table_that_was_made_while_the_backup_was_taken() -> None:
    at = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)
    facts = Facts("base-1", "base", 180000, at, at, {}, [], {"public.old": TableFacts(3), "public.new": TableFacts(7)},
                  [], {}, {"public.old": TableFacts(3), "public.gone": TableFacts(9)})  # fmt: skip
    assert facts.bounds("public.new") == (0, 7, False)

    def judged(**counts: int) -> backup_checks.Result:
        return backup_checks.row_counts(facts, {f"public.{name}": TableFacts(rows) for name, rows in counts.items()})

    for counts in ({"old": 3}, {"old": 3, "new": 0}, {"old": 3, "new": 7}, {"old": 3, "gone": 9}):
        assert judged(**counts).outcome is StageOutcome.PASSED, counts
    assert judged(old=3, new=8).outcome is StageOutcome.UNKNOWN, "nothing was counted"
    assert judged(new=7).reason.endswith("public.old is missing")
    empty = replace(facts, tables=facts.tables | {"public.new": TableFacts(0)})
    assert not empty.bounds("public.new").certain, "it may have had rows in between"


def test_facts_around_a_backup_know_what_was_changed_in_between(
    environment: pytest.MonkeyPatch, any_databases: Databases
) -> None:
    with filled_database(any_databases) as url, psycopg.connect(url, autocommit=True) as owner:
        backups.record_facts(url, "next")
        owner.execute(MEANWHILE)
        backups.record_facts(url, "next")
        owner.execute("DROP VIEW people_in_post; SELECT lo_create(0)")
        backups.record_facts(url, "20261004F", before="next")
    facts = backups.read_facts("20261004F")
    assert facts is not None
    views = {"public.people_in_post"}
    assert {name for kind, name in facts.changed_meanwhile if kind == "view"} == views
    assert ("table", "public.visits_2026") in facts.changed_meanwhile, "what the second call found is kept"
    assert facts.tables[backup_facts.LARGE_OBJECTS].rows == 1


def test_no_table_is_dropped_between_the_end_of_a_dump_and_its_count(
    environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path
) -> None:
    """The dump is done at once; the reading of the schema waits for a lock, and no table is counted yet."""
    done = 'import sys\nopen(next(a for a in sys.argv if a.startswith("--file="))[7:], "w").close()\n'
    _replaced(environment, tmp_path, "pg_dump", done)
    said: list[str] = []
    with filled_database(databases) as url:
        name = url.rsplit("/", 1)[-1]

        def take() -> None:
            try:
                backups.take(url, tmp_path / "backups", "a.dump")
            except Exception as error:
                said.append(str(error))

        taking = threading.Thread(target=take)
        with psycopg.connect(databases.postgres.url(name)) as holder:
            holder.execute("LOCK TABLE pg_foreign_server IN ACCESS EXCLUSIVE MODE")
            taking.start()
            with psycopg.connect(url, autocommit=True) as owner:
                until = time.monotonic() + 30
                waits = "SELECT count(*) FROM pg_locks WHERE relation = 'pg_foreign_server'::regclass AND NOT granted"
                while owner.execute(waits).fetchone() != (1,):
                    assert time.monotonic() < until
                    time.sleep(0.02)
                owner.execute("SET lock_timeout = '100ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    owner.execute("DROP TABLE scribbles")
        taking.join()
        assert said == []
        facts = backups.read_facts("a.dump")
        assert facts is not None
        assert facts.tables["public.scribbles"].rows == 1


def test_a_table_that_is_gone_before_it_is_locked_is_a_matter_of_trying_again(
    environment: pytest.MonkeyPatch, databases: Databases
) -> None:
    with filled_database(databases) as url, psycopg.connect(url) as reader:
        listed = backup_facts.tables_of(reader)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("DROP TABLE scribbles")
        with pytest.raises(psycopg.errors.UndefinedTable, match="scribbles"):
            backup_facts.lock(reader, listed)
