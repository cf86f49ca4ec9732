"""Old rows leave the audit log only into an archive that is proven to hold them, whatever happens on the way."""

import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.pruning import archive_files, manifests, moving, pace, prune, rows
from include.maintenance.pruning.restore import restore
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import folders
from include.settings import ROOT
from tests.include.maintenance.pruning.audit_log_rows import (
    ALL,
    CUT_OFF,
    NOW,
    archived,
    files,
    rule,
    states,
    wait_until_settled,
)

AWKWARD = [
    (None, "null actor and detail", None),
    ("", "", "null"),
    ("N", "-,", "{}"),
    ('O\'Brien "quoted"', "tab\tnew\nline\r\\N \\x00", '{"a": "it\'s; \\"so\\"", "n": 12345678901234567890.10}'),
    ("žluťoučký 金 🏦", "1:x,", '[1, 2.50, null, true, {"é": "\\u2028"}]'),
]


@pytest.fixture
def filled(any_platform: psycopg.Connection) -> psycopg.Connection:
    """23 rows past their retention (some with equal times), 7 that are not, one of them at the very cut-off."""
    with any_platform.cursor() as cursor:
        insert = "INSERT INTO public.audit_logs (created_at, actor, action, detail) VALUES (%s, %s, %s, %s)"
        times = [CUT_OFF - timedelta(microseconds=1), *(CUT_OFF - timedelta(hours=n // 3 + 1) for n in range(22))]
        times += [CUT_OFF, *(CUT_OFF + timedelta(days=n) for n in range(6))]
        cursor.executemany(insert, [(time, *AWKWARD[n % len(AWKWARD)]) for n, time in enumerate(times)])
    wait_until_settled(any_platform)
    return any_platform


def test_what_is_old_is_moved_and_nothing_else(
    filled: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(pace, "LONGEST_MILLISECONDS", 1e6)  # batches keep their size however busy the machine is
    before = Counter(filled.execute(ALL).fetchall())
    done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert (done["state"], done["rows"], done["archives"]) == ("proven", 23, 3)
    after = Counter(filled.execute(ALL).fetchall())
    assert sum(after.values()) == 7
    assert min(row[1] for row in after) == "2026-07-06 03:00:00+00", "the row of the very cut-off stays"
    assert after + archived(filled, warehouse) == before, "archive and table together are the original"
    assert states(warehouse) == ["deleted"] * 3
    recorded = warehouse.execute("SELECT location, row_count, file_sha256 FROM ops.archive ORDER BY 1").fetchall()
    assert sum(row_count for _, row_count, _ in recorded) == 23
    assert files(tmp_path) == [location for location, _, _ in recorded]
    for location, _, sha256 in recorded:
        assert hashlib.sha256((tmp_path / "archive" / location).read_bytes()).hexdigest() == sha256
    [(state, reason, proof)] = warehouse.execute("SELECT state, reason, proof FROM ops.maintenance_action").fetchall()
    assert (state, reason) == ("proven", "")
    assert proof.pop("longest_transaction_milliseconds") > 0
    assert proof == {
        "rows_older_before": 23,
        "rows_older_before_is_exact": True,
        "rows_older_after": 0,
        "rows_held": 0,
        "rows_held_is_exact": True,
        "rows_archived": 23,
        "rows_of_partitions": 0,
        "rows_arrived_meanwhile": 0,
        "rows_changed_meanwhile": 0,
        "rows_deleted_by_others_meanwhile": 0,
        "archives": 3,
        # 5 batches of 5, 5, 5, 5, 3 read and deleted; two readings at the end, and one of each of the four stretches of
        # time around three archives, found nothing more
        "transactions": 16,
        "replicas": "none",
        "largest_replica_lag_seconds": 0,
        "paused_seconds_for_replicas": 0,
        "paused_seconds_for_autovacuum": 0,
    }
    assert manifests.verify_chain("public.audit_logs") == {
        "source_table": "public.audit_logs",
        "manifests": 3,
        "files": 3,
        "rows": 23,
    }


def test_the_content_hash_is_what_it_says(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    """The SHA-256 of the sorted rows, column by column, computed here from what the server tells of each row."""
    old = filled.execute(
        "SELECT int8send(audit_log_id), timestamptz_send(created_at), actor, action, detail::text"
        " FROM public.audit_logs WHERE created_at < %s ORDER BY created_at, audit_log_id",
        (CUT_OFF,),
    ).fetchall()
    keys, times, *texts = zip(*old, strict=True)
    joined = ["\x1e".join("\x1d" if value is None else value for value in column).encode() for column in texts]
    expected = b"".join(b"%d:%s" % (len(one), one) for one in (b"".join(keys), b"".join(times), *joined))
    prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    [(recorded,)] = warehouse.execute("SELECT content_hash FROM ops.archive").fetchall()
    assert recorded == hashlib.sha256(expected).hexdigest()


def test_repeating_changes_nothing(filled: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path) -> None:
    prune.prune(rule(), "r1", dry_run=False, now=NOW)
    query = "SELECT a::text FROM ops.maintenance_action a UNION ALL SELECT a::text FROM ops.archive a ORDER BY 1"
    first, names = warehouse.execute(query).fetchall(), files(tmp_path)
    filled.execute("INSERT INTO public.audit_logs (created_at, action) VALUES ('2020-01-01', 'late')")
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["state"] == "proven"
    assert (warehouse.execute(query).fetchall(), files(tmp_path)) == (first, names)
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["rows"] == 1
    assert prune.prune(rule(), "r3", dry_run=False, now=NOW)["reason"] == "no row is older than 90 days"


def test_dry_run_changes_nothing(filled: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path) -> None:
    assert prune.prune(rule(), "r1", dry_run=True, now=NOW)["state"] == "planned"
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
    assert (files(tmp_path), states(warehouse)) == ([], [])
    [(plan,)] = warehouse.execute("SELECT plan FROM ops.maintenance_action").fetchall()
    assert (plan["rows_older"], plan["cut_off"]) == (23, "2026-07-06T03:00:00+00:00")
    assert plan["newest"] == "2026-07-06T02:59:59.999999+00:00"
    assert plan["oldest"] == "2026-07-05T19:00:00+00:00", "22 rows, three an hour, go back 8 hours"


KILLED = """
import os, signal, sys
from datetime import datetime
from include.maintenance.pruning import archive_files, manifests, moving, pace, prune, rows
from include.platform.folders import Folder
from include.maintenance_sections import Prune
from include.warehouse import archives

module, name, when = sys.argv[1:4]
modules = {"rows": rows, "archives": archives, "archive_files": archive_files, "manifests": manifests, "store": Folder}
owner = modules[module]
step, calls = getattr(owner, name), []

def killed(*arguments, **named):
    calls.append(1)
    if len(calls) == 2 and when == "before":  # in the second chunk
        os.kill(os.getpid(), signal.SIGKILL)
    result = step(*arguments, **named)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, killed)
pace.LONGEST_MILLISECONDS = 1e6  # batches keep their size however busy the machine is
prune.prune(Prune.model_validate_json(sys.argv[4]), "r1", False, datetime.fromisoformat(sys.argv[5]))
"""


@pytest.mark.parametrize(
    ("module", "name", "when", "same_run"),
    [
        ("archive_files", "write", "after", True),
        ("archives", "record_written", "after", False),
        ("store", "put", "after", True),
        ("manifests", "put", "after", False),
        ("archives", "record_verified", "after", True),
        ("rows", "delete_stretches", "after", True),
        ("rows", "delete_stretches", "after", False),
        ("archives", "record_deleted", "before", False),
        ("archives", "record_deleted", "after", True),
    ],
)
def test_a_kill_anywhere_loses_nothing_and_leaves_nothing_twice(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    tmp_path: Path,
    module: str,
    name: str,
    when: str,
    same_run: bool,
) -> None:
    before = Counter(filled.execute(ALL).fetchall())
    command = [sys.executable, "-c", KILLED, module, name, when, rule().model_dump_json(), NOW.isoformat()]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert sum(Counter(filled.execute(ALL).fetchall()).values()) in (30, 25, 20, 15, 10)
    done = prune.prune(rule(), "r1" if same_run else "r2", dry_run=False, now=NOW)
    assert done["state"] == "proven"
    assert Counter(filled.execute(ALL).fetchall()) + archived(filled, warehouse) == before
    assert set(states(warehouse)) == {"deleted"}
    locations = [row[0] for row in warehouse.execute("SELECT location FROM ops.archive ORDER BY 1").fetchall()]
    assert files(tmp_path) == locations, "no file is left that the warehouse does not know"
    manifests.verify_chain("public.audit_logs")
    query = "SELECT proof FROM ops.maintenance_action WHERE state = 'proven'"
    [(proof,)] = warehouse.execute(query).fetchall()
    assert proof["rows_arrived_meanwhile"] == 0
    assert proof["rows_older_before"] == proof["rows_archived"]
    if same_run:
        assert proof["rows_archived"] == 23, "the proof covers both attempts"


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_byte_blocks_the_deletion(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put: Callable[..., None] = folders.Folder.put

    def damaged(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        _flip_a_byte(tmp_path / "archive" / location)

    with environment.context() as patch:
        patch.setattr(folders.Folder, "put", damaged)
        with pytest.raises(MaintenanceFailed, match="is damaged"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
    [(state, reason)] = warehouse.execute("SELECT state, reason FROM ops.maintenance_action").fetchall()
    assert state == "failed"
    assert "SHA-256 is not the recorded one" in reason
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 23, "the damaged file is replaced"


def test_a_file_that_holds_other_rows_blocks_the_deletion(
    filled: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    write = archive_files._write

    def other(connection, select, path, metadata):  # type: ignore[no-untyped-def]
        write(connection, f"SELECT * REPLACE ('somebody else' AS actor) FROM ({select})", path, metadata)

    environment.setattr(archive_files, "_write", other)
    with pytest.raises(MaintenanceFailed, match="differ from the source rows after they were written, in actor"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)


def test_a_verified_archive_that_is_damaged_later_stops_everything(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise SourceUnavailable("lost")

    with environment.context() as patch:
        patch.setattr(rows, "delete_stretches", lost)
        with pytest.raises(SourceUnavailable):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    _flip_a_byte(tmp_path / "archive" / files(tmp_path)[0])
    with pytest.raises(MaintenanceFailed, match="verified earlier and its rows may be gone"):
        prune.prune(rule(), "r2", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
    found = warehouse.execute("SELECT run_id, state FROM ops.maintenance_action ORDER BY 1").fetchall()
    assert found == [("r1", "failed"), ("r2", "failed")]


def test_rows_that_change_while_they_are_archived_are_archived_as_they_are_now(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    put: Callable[..., None] = folders.Folder.put
    changes = iter(
        [
            "UPDATE public.audit_logs SET actor = 'changed' WHERE created_at < '2026-07-05 20:00'",
            "UPDATE public.audit_logs SET actor = 'later' WHERE created_at = '2026-07-05 21:00' AND actor = ''",
            "UPDATE public.audit_logs SET created_at = '2027-01-01' WHERE created_at = '2026-07-05 23:00'",
        ]
    )

    def changed(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        if change := next(changes, None):
            filled.execute(change)

    environment.setattr(folders.Folder, "put", changed)
    done = prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    rest = Counter(filled.execute(ALL).fetchall())
    kept = archived(filled, warehouse)
    assert sum((rest + kept).values()) == 30, "none is lost, none is there twice"
    assert {row[2] for row in kept} >= {"changed"}
    assert done["rows"] == sum(kept.values())
    assert sorted(states(warehouse)).count("withdrawn") >= 1
    locations = warehouse.execute("SELECT location FROM ops.archive WHERE state = 'deleted' ORDER BY 1").fetchall()
    assert files(tmp_path) == [location for (location,) in locations]
    [(proof,)] = warehouse.execute("SELECT proof FROM ops.maintenance_action").fetchall()
    assert proof["rows_changed_meanwhile"] >= 1
    assert manifests.verify_chain("public.audit_logs")["rows"] == done["rows"]


def test_rows_of_a_verified_archive_that_was_deleted_and_partly_put_back_are_kept(
    filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    before = set(filled.execute(ALL).fetchall())
    prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    # As if the attempt had ended between the deletion and its record, and somebody had put one row back.
    warehouse.execute("UPDATE ops.archive SET state = 'verified', deleted_at = NULL")
    [(archive,)] = warehouse.execute("SELECT archive_id FROM ops.archive").fetchall()
    restore(archive, "platform_owner", "public.copy")
    filled.execute("INSERT INTO public.audit_logs OVERRIDING SYSTEM VALUE SELECT * FROM public.copy LIMIT 1")
    prune.prune(rule(), "r2", dry_run=False, now=NOW)
    assert Counter(filled.execute(ALL).fetchall()) + archived(filled, warehouse) == Counter(before)


def test_rows_that_somebody_else_deletes_are_noticed(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    read = moving.read_chunk

    def robbed(*arguments: object) -> object:
        filled.execute("DELETE FROM public.audit_logs WHERE created_at = '2026-07-06 02:00'")
        return read(*arguments)  # type: ignore[arg-type]

    environment.setattr(moving, "read_chunk", robbed)
    with pytest.raises(MaintenanceFailed, match="3 rows of public.audit_logs past their retention vanished"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    [(state, proof)] = warehouse.execute("SELECT state, proof FROM ops.maintenance_action").fetchall()
    assert state == "failed"
    assert proof["rows_archived"] == 20


def test_rows_that_somebody_deletes_after_they_were_archived_are_kept_and_counted(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    before = Counter(filled.execute(ALL).fetchall())
    put: Callable[..., None] = folders.Folder.put

    def robbed(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        filled.execute("DELETE FROM public.audit_logs WHERE created_at = '2026-07-05 19:00'")

    environment.setattr(folders.Folder, "put", robbed)
    prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    [(proof,)] = warehouse.execute("SELECT proof FROM ops.maintenance_action").fetchall()
    assert (proof["rows_deleted_by_others_meanwhile"], proof["rows_archived"]) == (1, 23)
    assert Counter(filled.execute(ALL).fetchall()) + archived(filled, warehouse) == before


def test_a_locked_row(filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases) -> None:
    with filled.transaction():
        filled.execute("SELECT 1 FROM public.audit_logs ORDER BY created_at LIMIT 1 FOR UPDATE")
        with pytest.raises(MaintenanceFailed, match="another session holds a lock"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
        assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 23


def test_two_at_once(filled: psycopg.Connection, any_databases: Databases) -> None:
    with prune._attempt(rule()), pytest.raises(MaintenanceFailed, match="another run prunes"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)


@pytest.mark.parametrize("any_databases", ["postgresql18"], indirect=True)  # before 17 the role owns the tables
def test_missing_privileges_are_named(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    filled.execute("REVOKE DELETE ON public.audit_logs FROM operations_maintainer")
    with pytest.raises(ConfigurationError, match="lacks a privilege .*audit_logs"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
    [(state,)] = warehouse.execute("SELECT state FROM ops.maintenance_action").fetchall()
    assert state == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "public.nothing"}, r"no table public\.nothing"),
        ({"time_column": "noted_at"}, "has no column noted_at"),
        ({"time_column": "actor"}, "is no time stamp"),
        ({"key_column": "actor"}, "does not identify a row"),
    ],
)
def test_wrong_rules_are_one_sentence(platform: psycopg.Connection, change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune.prune(rule(**change), "r1", dry_run=False, now=NOW)


def test_rows_of_other_tables_are_never_deleted_along(platform: psycopg.Connection) -> None:
    platform.execute("CREATE TABLE public.notes (audit_log_id bigint REFERENCES public.audit_logs ON DELETE CASCADE)")
    with pytest.raises(ConfigurationError, match="would also change .*notes"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)


def test_every_type_round_trips(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path
) -> None:
    any_platform.execute(
        """
        CREATE TYPE public.mood AS ENUM ('good', 'it''s bad');
        CREATE TABLE public.typed (
            "Key" uuid PRIMARY KEY, "at time" timestamp NOT NULL, amount numeric(12, 4), plain numeric,
            wei numeric(78, 0), real4 real, double8 double precision, yes boolean, day date,
            zoned timestamptz, raw bytea, tags text[],
            span interval, address inet, mood public.mood,
            price money, document json, small smallint, whole integer,
            doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
        );
        GRANT SELECT, DELETE ON public.typed TO operations_maintainer;
        INSERT INTO public.typed VALUES
            (gen_random_uuid(), '2026-01-01 00:00:00.000001', 12345678.9000, 1.10, 10::numeric ^ 77, 1e-7, 0.1, true,
             '2026-02-28', '2026-03-29 01:59:59.999999+02', '\\x00ff', ARRAY['a,b', NULL, '{"'],
             '1 mon -3 days 00:00:00.5', '::1/128', 'it''s bad', 1234.5, '{"b":  1, "a": 2, "b": 3}',
             -32768, 2147483647),
            (gen_random_uuid(), '2026-01-02', 'NaN', 'NaN', NULL, 'Infinity', 'NaN', NULL, 'infinity', '-infinity',
             '', '{}',
             '00:00:00', NULL, NULL, -0.01, 'null', NULL, 0),
            (gen_random_uuid(), '2026-01-03', NULL, -0.000, 0, '-0', 1.7976931348623157e308, false, '0044-03-15 BC',
             '10000-01-01 00:00:00+00', NULL, NULL, NULL, '10.0.0.0/8', 'good', NULL, NULL, NULL, NULL);
        """
    )
    query = "SELECT t::text FROM public.{} t ORDER BY t::text"
    before = any_platform.execute(query.format("typed")).fetchall()
    done = prune.prune(
        rule(table="public.typed", time_column="created_at", key_column="k").model_copy(
            update={"time_column": "at time", "key_column": "Key"}
        ),
        "r1",
        dry_run=False,
        now=NOW,
    )
    assert done["rows"] == 3
    [(archive,)] = warehouse.execute("SELECT archive_id FROM ops.archive").fetchall()
    assert restore(archive, "platform_owner", "public.restored")["rows"] == 3
    assert any_platform.execute(query.format("restored")).fetchall() == before
    restore(archive, "platform_owner", "public.typed")
    assert any_platform.execute(query.format("typed")).fetchall() == before, (
        "its own table computes the generated column"
    )
    with pytest.raises(MaintenanceFailed, match="typed_pkey"):
        restore(archive, "platform_owner", "public.typed")
    with pytest.raises(ConfigurationError, match="no archive nothing"):
        restore("nothing", "platform_owner", "public.typed")


def test_an_archive_is_plain_parquet_with_native_types(filled: psycopg.Connection, tmp_path: Path) -> None:
    import duckdb

    prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    place = f"{tmp_path}/archive/**/*.parquet"
    found = duckdb.execute(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{place}')").fetchall()
    assert found == [
        ("audit_log_id", "BIGINT"),
        ("created_at", "TIMESTAMP WITH TIME ZONE"),
        ("actor", "VARCHAR"),
        ("action", "VARCHAR"),
        ("detail", "VARCHAR"),
    ]
    codecs = duckdb.execute(f"SELECT DISTINCT compression FROM parquet_metadata('{place}')").fetchall()
    assert codecs == [("ZSTD",)]


def test_the_archive_folder_cannot_be_written(
    filled: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "archive" / "public.audit_logs").write_text("a file where a folder must be")
    with pytest.raises(
        ConfigurationError, match=r"may not be written: the folder of the connection archive refused it"
    ):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
