"""Archives outlive the types of their columns: what has changed or is gone since is no fault of a file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from include.maintenance import __main__ as command
from include.maintenance.backups import full_restoration
from include.maintenance.pruning import archive_restoration, prune
from include.platform import postgres_binaries
from include.platform.backup_restore import Restored
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import settings
from include.warehouse import archives
from tests.include.maintenance.pruning.audit_log_rows import NOW, rule, wait_until_settled

LATER = datetime(2099, 1, 5, 5, tzinfo=UTC)
OF_THE_TIME = """
CREATE TYPE public.mood AS ENUM ('calm', 'cross');
CREATE DOMAIN public.share AS numeric(6, 3);
CREATE DOMAIN public.price AS numeric(6, 3);
CREATE SCHEMA old;
CREATE DOMAIN old.code AS text;
CREATE TYPE public.kept AS ENUM ('yes');
"""
TODAY = """
CREATE TYPE public.mood AS ENUM ('calm', 'furious');
CREATE DOMAIN public.share AS numeric(6, 3) CHECK (VALUE < 1);
CREATE DOMAIN public.price AS numeric(6, 1);
CREATE TYPE public.kept AS ENUM ('yes');
"""
"""A value was renamed, a domain tightened, one made anew that rounds, a schema dropped; one is what it was."""
VALUES = {
    "public.mood": "cross",
    "public.share": "5.125",
    "public.price": "5.125",
    "old.code": "x",
    "public.kept": "yes",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchServer]:
    """A server with a database of the types that there are today."""
    with scratch_place("tests of old archives") as place:
        server = new_server(place, "restored", postgres_binaries.newest()[0])
        server.initialise()
        server.start()
        with server.connect() as connection:
            connection.execute("CREATE DATABASE today")
        with server.connect("today") as connection:
            connection.execute(TODAY)
        yield server


@pytest.fixture
def archived(platform: psycopg.Connection, warehouse: psycopg.Connection) -> list[archives.Archive]:
    """An archive of three rows for each type, in the order of VALUES."""
    platform.execute(OF_THE_TIME)
    for number, (kind, value) in enumerate(VALUES.items()):
        platform.execute(f"ALTER TABLE public.audit_logs ADD own {kind}".encode())
        platform.execute(
            "INSERT INTO public.audit_logs (created_at, action, own)"
            f" SELECT %s::timestamptz - n * interval '100 days', 'x', %s::{kind}"
            " FROM generate_series(1, 3) AS n".encode(),
            (NOW, value),
        )
        wait_until_settled(platform)
        prune.prune(rule(), f"run {number}", dry_run=False, now=NOW)
        platform.execute("ALTER TABLE public.audit_logs DROP own")
    found = archives.restorable(warehouse, LATER)
    assert [one.row_count for one in found] == [3] * 5
    return found


def test_what_a_type_of_today_refuses_is_compared_as_text(
    archived: list[archives.Archive], server: ScratchServer, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    found = list(archive_restoration.restore_all(server, "today", archived))
    assert [one.problem for one in found] == [""] * 5
    assert [one.as_text for one in found] == [*((kind,) for kind in list(VALUES)[:4]), ()]
    with server.connect("today") as connection:
        left = "SELECT count(*) FROM pg_tables WHERE schemaname = 'gold_escrow_archives'"
        assert connection.execute(left).fetchone() == (0,), "the disk needs room for one at a time"

    restored = Restored(server, "today")
    result = full_restoration._restore_archives(restored, archived, 100)
    assert result.outcome.value == "passed"
    assert result.detail["rows"] == 15
    assert result.detail["types_compared_as_text"] == sorted(list(VALUES)[:4])
    assert full_restoration._restore_archives(restored, archived, 2).detail["rows"] == 6

    environment.setenv("OPERATIONS__RESTORATION__ARCHIVES_MINUTES", "0.00001")
    settings.cache_clear()
    result = full_restoration._restore_archives(restored, archived, 100)
    assert (result.detail["files"], result.detail["archives"]) == (1, 5)
    assert result.detail["remark"].startswith("only the newest 1 of 5 archives were restored")
    assert "types_compared_as_text" not in result.detail, "the newest is that of the type that is what it was"


def test_a_damaged_archive_is_named_and_the_others_are_tried(
    archived: list[archives.Archive], server: ScratchServer, tmp_path: Path, warehouse: psycopg.Connection
) -> None:
    path = tmp_path / "archive" / archived[1].location
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    warehouse.execute("UPDATE ops.archive SET content_hash = reverse(content_hash) WHERE archive_id = %s",
                      (archived[3].archive_id,))  # fmt: skip
    found = list(archive_restoration.restore_all(server, "today", archives.restorable(warehouse, LATER)))
    assert [bool(one.problem) for one in found] == [False, True, False, True, False], [one.problem for one in found]
    assert [one.unknown for one in found] == [False] * 5
    for number in (1, 3):
        assert archived[number].archive_id in found[number].problem


def test_the_command_names_the_way_round(
    archived: list[archives.Archive], platform: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.execute("DROP TYPE public.mood; DROP DOMAIN public.share, public.price; DROP SCHEMA old CASCADE")
    platform.execute(TODAY.replace("CREATE TYPE public.kept AS ENUM ('yes');", "DROP DOMAIN public.price;").encode())
    for archive, (kind, value) in zip(archived, VALUES.items(), strict=True):
        target = f"public.restored_{uuid.uuid4().hex[:8]}"
        words = ["restore", archive.archive_id, "platform_owner", target]
        if kind != "public.kept":
            assert command.main(words) == 1, kind
            way_round = "if a type has changed since, restore with --as-text to a table that does not exist yet"
            assert way_round in capsys.readouterr().err
        assert command.main([*words, "--as-text"]) == 0
        assert json.loads(capsys.readouterr().out)["as_text"] == [kind]
        rows = platform.execute(f"SELECT own, pg_typeof(own)::text FROM {target}".encode()).fetchall()
        assert rows == [(value, "text")] * 3
        assert command.main([*words, "--as-text"]) == 1, "a table that exists keeps its types"
        said = capsys.readouterr().err
        assert "that table exists and keeps its types; with --as-text name one that does not exist yet" in said
        assert platform.execute(f"SELECT count(*) FROM {target}".encode()).fetchone() == (3,)
    assert command.main(["restore", archived[0].archive_id, "platform_owner", "gone.restored", "--as-text"]) == 1
    assert capsys.readouterr().err.strip().endswith('schema "gone" does not exist; restore to another table')
