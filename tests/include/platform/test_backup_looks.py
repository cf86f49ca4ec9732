"""A look at a database keeps nobody from changing it, and what is changed meanwhile does not spoil the look."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import ConfigurationError
from include.platform import backup_looks, backups
from include.platform.backup_facts import Facts, SnapshotFacts, TableFacts
from tests.include.maintenance.backups.backup_platform import configure, filled_database

MORE = """
CREATE TABLE a_first AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 2000);
ANALYZE a_first;
CREATE SCHEMA staging;
CREATE TABLE staging.loads (n integer);
"""
CHANGES = """
ALTER TABLE people RENAME joined_at TO joined;
ALTER TABLE letters ALTER expires_at TYPE integer USING 1;
DROP TABLE visits_2026;
DROP SCHEMA staging CASCADE;
"""


def _changed_amid(databases: Databases, url: str, held: str, changes: str) -> Facts:
    """Record the facts "next", and change the database while the look waits for the table ``held``."""
    said: list[str] = []

    def record() -> None:
        try:
            backups.record_facts(url, "next")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    looking = threading.Thread(target=record)
    superuser = databases.postgres.url(url.rsplit("/", 1)[-1])
    with psycopg.connect(url, autocommit=True) as owner, psycopg.connect(superuser) as holder:
        holder.execute(f"LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE".encode())
        looking.start()
        try:
            until = time.monotonic() + 30
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
            while owner.execute(waiting, [held]).fetchone() != (1,):
                assert time.monotonic() < until, said
                time.sleep(0.02)
            owner.execute("SET lock_timeout = '5s'")
            owner.execute(changes.encode())
        finally:
            holder.rollback()
            looking.join()
    assert said == []
    facts = backups.read_facts("next")
    assert facts is not None
    return facts


def test_a_table_is_dropped_while_the_schema_is_read(environment: pytest.MonkeyPatch, any_databases: Databases) -> None:
    with filled_database(any_databases) as url:
        facts = _changed_amid(any_databases, url, "pg_foreign_server", "DROP VIEW people_in_post; DROP TABLE letters")
    assert set(facts.tables) == {"public.people", "public.visits_2026"}
    assert [one for one in facts.catalog if "letters" in one[1]] == [], "it was read anew"


def test_tables_are_changed_before_they_are_counted(
    environment: pytest.MonkeyPatch, any_databases: Databases, tmp_path: Path
) -> None:
    configure(environment, tmp_path, newest_row_columns={"public.people": "joined_at"})
    with filled_database(any_databases) as url:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(MORE)
        backups.record_facts(url, "next")
        facts = _changed_amid(any_databases, url, "a_first", CHANGES)
        assert facts.tables == {
            "public.a_first": TableFacts(2000), "public.letters": TableFacts(2000), "public.people": TableFacts(300),
        }  # fmt: skip
        gone = [("table", "public.visits_2026"), ("table", "staging.loads")]
        assert facts.changed_meanwhile == facts.there_throughout == gone, "they could not be counted"
        backups.record_facts(url, "next")
        again = backups.read_facts("next")
        assert again is not None
        assert again.tables["public.people"].rows == 300, "a backup that is done is not lost for a setting"
        assert {*gone, ("column", "public.people.joined_at")} <= set(again.changed_meanwhile)
        assert ("column", "public.letters.expires_at") in again.there_throughout
        with pytest.raises(ConfigurationError, match="newest_row_columns names joined_at for public.people"):
            backups.record_facts(url, "next", begin=True)


def test_what_was_there_before_and_after() -> None:
    at = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)

    def seen(**views: str) -> SnapshotFacts:
        return SnapshotFacts(at, 180000, {}, [], [("view", *one) for one in views.items()])

    first = Facts("a", "base", 180000, at, at, {}, [], {}, seen(altered="1", dropped="1", same="1").catalog, {}, {})
    facts = backup_looks.joined(first, seen(altered="2", made="1", same="1"), {}, ["public.gone"])
    views = [("view", "altered"), ("view", "dropped"), ("view", "made")]
    assert facts.changed_meanwhile == [("table", "public.gone"), *views]
    assert facts.there_throughout == [("view", "altered")]
    facts = backup_looks.joined(facts, seen(dropped="1", made="2", same="2"), {}, [])
    assert facts.changed_meanwhile == [("table", "public.gone"), *views, ("view", "same")]
    assert facts.there_throughout == [("view", "same")]
