"""amcheck passes a sound database and finds a row that its index lacks, and damage within a table, on each server."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

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
    return backup_amcheck._by_function(restored, [restored.database])


@pytest.fixture(params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    if request.param == 15:
        skip_where_absent()
    with scratch_server(request.param, "amcheck") as found, found.connect() as connection:
        connection.execute("CREATE EXTENSION amcheck")
        connection.execute("CREATE TABLE rows (id int PRIMARY KEY, filler text)")
        connection.execute("INSERT INTO rows SELECT n, repeat('x', 100) FROM generate_series(1, 1000) AS n")
        yield found


@pytest.mark.parametrize("check", [_with_pg_amcheck, _by_function])
def test_a_row_that_its_index_lacks(server: ScratchServer, check: Check) -> None:
    restored = Restored(server, "postgres")
    assert check(restored).outcome == "passed"
    with server.connect() as connection:
        ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'rows_pkey'::regclass"
        connection.execute(ready, (False,))
        connection.execute("INSERT INTO rows VALUES (1001, 'not in the index')")
        connection.execute(ready, (True,))
    found = check(restored)
    assert found.outcome == "failed"
    assert "rows_pkey" in found.reason + str(found.detail)
    assert "lacks matching index tuple" in found.reason + str(found.detail)


def test_damage_within_a_table(server: ScratchServer) -> None:
    restored = Restored(server, "postgres")
    with server.connect() as connection:
        [(path,)] = connection.execute("SELECT pg_relation_filepath('rows')").fetchall()
        connection.execute("CHECKPOINT")
    server.stop()
    file = server.data / path
    content = bytearray(file.read_bytes())
    beyond_the_page, normal, length = 32_760, 1 << 15, 32 << 17
    content[24:28] = struct.pack("<I", beyond_the_page | normal | length)  # the first line pointer of the first page
    file.write_bytes(content)
    server.start({"ignore_checksum_failure": "on"})
    found = _with_pg_amcheck(restored)
    assert found.outcome == "failed"
    assert "rows" in found.reason
