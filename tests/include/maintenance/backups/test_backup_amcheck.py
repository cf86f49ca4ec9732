"""amcheck passes a sound database and finds a row that its index lacks, and damage within a table, on each server."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from include.maintenance.backups import backup_amcheck
from include.maintenance.backups.backup_checks import Result
from include.platform.backup_restore import Restored
from include.platform.scratch_server import ScratchServer, scratch_server
from tests.old_postgres import skip_where_absent

Check = Callable[[Restored], Result]


def _with_pg_amcheck(restored: Restored) -> Result:
    return backup_amcheck.check(restored, jobs=2)


def _by_function(restored: Restored) -> Result:
    """As PostgreSQL 13, which has no pg_amcheck."""
    return backup_amcheck._by_function(restored, [restored.database], [])


def _dump(server: ScratchServer) -> Restored:
    return Restored(server, "postgres")


def _cluster(server: ScratchServer) -> Restored:
    return Restored(server, "postgres", ["postgres"])


def _leave_a_row_out_of_its_index(connection: psycopg.Connection) -> None:
    ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'rows_pkey'::regclass"
    connection.execute(ready, (False,))
    connection.execute("INSERT INTO rows VALUES (1001, 'not in the index')")
    connection.execute(ready, (True,))


@pytest.fixture(params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    if request.param == 15:
        skip_where_absent()
    with scratch_server(request.param, "amcheck") as found, found.connect() as connection:
        connection.execute("CREATE EXTENSION amcheck")
        connection.execute("CREATE TABLE rows (id int PRIMARY KEY, filler text)")
        connection.execute("INSERT INTO rows SELECT n, repeat('x', 100) FROM generate_series(1, 1000) AS n")
        yield found


@pytest.mark.parametrize("restored_as", [_dump, _cluster])
@pytest.mark.parametrize("check", [_with_pg_amcheck, _by_function])
def test_a_row_that_its_index_lacks(
    server: ScratchServer, check: Check, restored_as: Callable[[ScratchServer], Restored]
) -> None:
    restored = restored_as(server)
    assert check(restored).outcome == "passed"
    with server.connect() as connection:
        _leave_a_row_out_of_its_index(connection)
    found = check(restored)
    assert found.outcome == "failed"
    assert "rows_pkey" in found.reason + str(found.detail)
    assert "lacks matching index tuple" in found.reason + str(found.detail)


@contextmanager
def _file_of(server: ScratchServer, relation: str) -> Iterator[bytearray]:
    """The file of a table or index while the server is down; it is written back as it was changed."""
    with server.connect() as connection:
        [(path,)] = connection.execute("SELECT pg_relation_filepath(%s::regclass)", (relation,)).fetchall()
        connection.execute("CHECKPOINT")
    server.stop()
    file = server.data / path
    content = bytearray(file.read_bytes())
    yield content
    file.write_bytes(content)
    server.start({"ignore_checksum_failure": "on"})


def test_damage_within_a_table(server: ScratchServer) -> None:
    restored = Restored(server, "postgres")
    beyond_the_page, normal, length = 32_760, 1 << 15, 32 << 17
    with _file_of(server, "rows") as content:  # the first line pointer of its first page
        content[24:28] = struct.pack("<I", beyond_the_page | normal | length)
    found = _with_pg_amcheck(restored)
    assert found.outcome == "failed"
    assert "rows" in found.reason


@pytest.mark.parametrize("check", [_with_pg_amcheck, _by_function])
def test_a_level_of_an_index_that_leads_astray(server: ScratchServer, check: Check) -> None:
    with _file_of(server, "rows_pkey") as content:
        (root,) = struct.unpack_from("<I", content, 24 + 8)  # of the metapage: magic number, version, root
        page = root * 8192
        (pointer,) = struct.unpack_from("<I", content, page + 24 + 4)  # the second: the first has no key
        key = page + (pointer & 0x7FFF) + 8
        (least,) = struct.unpack_from("<i", content, key)
        assert 1 < least < 1000
        struct.pack_into("<i", content, key, least + 1)  # the page below begins with ``least``
    assert check(_dump(server)).outcome == "passed", "nobody compares the levels of what was built a moment ago"
    found = check(_cluster(server))
    assert found.outcome == "failed"
    assert "rows_pkey" in found.reason


def test_a_key_that_is_there_twice(server: ScratchServer) -> None:
    with server.connect() as connection:
        connection.execute("CREATE TABLE twice AS SELECT 1 AS n FROM generate_series(1, 2)")
        connection.execute("CREATE INDEX twice_n ON twice (n)")
        connection.execute("UPDATE pg_index SET indisunique = true WHERE indexrelid = 'twice_n'::regclass")
    found = _with_pg_amcheck(_cluster(server))
    if server.major < 17:
        assert found.outcome == "passed", "these cannot look for it"
        return
    assert found.outcome == "failed"
    assert "uniqueness is violated" in str(found.detail)


def test_a_machine_that_sorts_otherwise_than_production(server: ScratchServer) -> None:
    with server.connect() as connection:
        connection.execute("CREATE INDEX ON rows (filler)")
        connection.execute("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres'")
        [(name, version)] = connection.execute(
            "SELECT collname, collversion FROM pg_collation WHERE collversion IS NOT NULL ORDER BY 1 LIMIT 1"
        ).fetchall()
        connection.execute("UPDATE pg_collation SET collversion = '0.7' WHERE collname = %s", (name,))
    assert _with_pg_amcheck(_dump(server)).detail == {"databases": ["postgres"]}, "its indexes were built here"
    remark = (
        "indexes were sorted by another version of database postgres (1.0, here none) and may be wrong on this machine "
        "only; verify where the C library and ICU are production's, and reindex after a recovery elsewhere"
    )
    assert _with_pg_amcheck(_cluster(server)).detail == {"databases": ["postgres"], "remark": remark}
    with server.connect() as connection:
        connection.execute(f'CREATE INDEX ON rows (filler COLLATE "{name}")'.encode())
        _leave_a_row_out_of_its_index(connection)
    found = _with_pg_amcheck(_cluster(server))
    assert found.outcome == "unknown", "which of the two it is, nobody can tell here"
    assert found.reason.startswith("pg_amcheck: btree index")
    assert name in found.reason
    assert f"(0.7, here {version})" in found.reason
    assert "database postgres (1.0, here none)" in found.reason
    assert _with_pg_amcheck(_dump(server)).outcome == "failed"
