"""Every foreign key and CHECK of a restored cluster is read again; rows that break one are found, on each server."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from include.maintenance.backups import backup_constraints
from include.platform.backup_restore import Restored
from include.platform.scratch_server import ScratchServer, scratch_server
from tests.old_postgres import skip_where_absent

TABLES = """
CREATE SCHEMA "Shop";
CREATE COLLATION "Shop".other (locale = 'C');
CREATE TYPE "Shop".kind AS ENUM ('a', 'b');
CREATE FUNCTION "Shop".fine(n integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n < 1000';
CREATE TABLE "Shop".users (
    id bigint PRIMARY KEY, code text COLLATE "C" UNIQUE, fixed char(4) UNIQUE, kind "Shop".kind UNIQUE,
    tags text[] UNIQUE, a integer, b integer, UNIQUE (a, b)
);
CREATE TABLE "Shop".orders (
    id integer NOT NULL, user_id integer REFERENCES "Shop".users,
    code varchar(9) COLLATE "Shop".other REFERENCES "Shop".users (code),
    fixed char(4) REFERENCES "Shop".users (fixed), kind "Shop".kind REFERENCES "Shop".users (kind),
    tags text[] REFERENCES "Shop".users (tags), a integer, b integer,
    FOREIGN KEY (a, b) REFERENCES "Shop".users (a, b) MATCH FULL,
    CHECK (user_id > 0), CHECK ("Shop".fine(id)), CONSTRAINT "Own" CHECK (id > -1000) NO INHERIT,
    CONSTRAINT row CHECK (orders.* IS DISTINCT FROM NULL)
);
CREATE TABLE "Shop".events (
    id integer, day date, parent integer, parent_day date, CHECK (id > 0), PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE "Shop".events_1 PARTITION OF "Shop".events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE "Shop".events_2 PARTITION OF "Shop".events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
ALTER TABLE "Shop".events ADD FOREIGN KEY (parent, parent_day) REFERENCES "Shop".events;
CREATE TABLE "Shop".notes (event integer, day date, FOREIGN KEY (event, day) REFERENCES "Shop".events);
INSERT INTO "Shop".users VALUES (1, 'one', 'ab', 'a', '{x,y}', 1, 2), (2, 'two', 'abcd', 'b', '{}', 3, 4);
INSERT INTO "Shop".orders VALUES (1, 1, 'one', 'ab', 'a', '{x,y}', 1, 2), (3, 2, 'two', 'abcd', 'b', '{}', 3, 4);
INSERT INTO "Shop".orders (id) VALUES (2);
INSERT INTO "Shop".events VALUES
    (1, '2026-01-01', NULL, NULL), (2, '2026-02-01', 1, '2026-01-01'), (3, '2026-02-02', 2, '2026-02-01');
INSERT INTO "Shop".notes VALUES (1, '2026-01-01'), (2, '2026-02-01'), (9, NULL);
"""
NEWER = """
CREATE EXTENSION btree_gist;
CREATE TABLE "Shop".prices (id integer, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE "Shop".offers (
    id integer, valid daterange, FOREIGN KEY (id, PERIOD valid) REFERENCES "Shop".prices (id, PERIOD valid),
    CONSTRAINT wish CHECK (id > 5) NOT ENFORCED
);
INSERT INTO "Shop".prices VALUES (1, '[2026-01-01,2026-02-01)'), (1, '[2026-02-01,2026-03-01)');
INSERT INTO "Shop".offers VALUES (1, '[2026-01-15,2026-02-15)');
"""
BREAKS = [
    ("INSERT INTO orders (id, user_id) VALUES (4, 99)", "orders_user_id_fkey of \"Shop\".orders (1 rows)"),
    ("INSERT INTO orders (id, code) VALUES (4, 'three'), (5, 'four')", "orders_code_fkey of \"Shop\".orders (2 rows)"),
    ("INSERT INTO orders (id, fixed) VALUES (4, 'abc')", "orders_fixed_fkey of \"Shop\".orders (1 rows)"),
    ("INSERT INTO orders (id, tags) VALUES (4, '{z}')", "orders_tags_fkey of \"Shop\".orders (1 rows)"),
    ("DELETE FROM users WHERE kind = 'b'; UPDATE orders SET user_id = 1, code = 'one', fixed = 'ab', tags = '{x,y}', "
     "a = 1, b = 2 WHERE id = 3", "orders_kind_fkey of \"Shop\".orders (1 rows)"),
    ("INSERT INTO orders (id, a) VALUES (4, 1)", "orders_a_b_fkey of \"Shop\".orders (1 rows)"),
    ("DELETE FROM events_1; DELETE FROM notes WHERE event = 1",
     "events_parent_parent_day_fkey of \"Shop\".events (1 rows)"),
    ("INSERT INTO notes VALUES (3, '2026-02-03')", "notes_event_day_fkey of \"Shop\".notes (1 rows)"),
]  # fmt: skip


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    if request.param == 15:
        skip_where_absent()
    with scratch_server(request.param, "constraints") as found:
        with found.connect() as connection:
            connection.execute("CREATE DATABASE shop")
        with found.connect("shop") as connection:
            connection.execute(TABLES)
            if found.major >= 18:
                connection.execute(NEWER)
        yield found


def _broken(server: ScratchServer, *changes: str) -> list[str]:
    """What is broken after changes that no trigger saw, which are taken back by a new database."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE broken TEMPLATE shop")
    try:
        with server.connect("broken") as connection:
            connection.execute('SET session_replication_role = replica; SET search_path = "Shop"')
            for change in changes:
                connection.execute(change.encode())
        found = backup_constraints.check(Restored(server, "broken", ["broken"]), None, jobs=2)
        assert (found.outcome == "failed") == bool(found.detail["broken"])
        return list(found.detail["broken"])
    finally:
        with server.connect() as connection:
            connection.execute("DROP DATABASE broken")


def test_sound_rows_of_every_kind_of_constraint_pass(server: ScratchServer) -> None:
    restored = Restored(server, "shop", ["shop"])
    found = backup_constraints.check(restored, None, jobs=2)
    assert found.outcome == "passed"
    newer = 1 if server.major >= 18 else 0  # the period; a wish is none
    assert found.detail["read"] == 8 + 4 + 2 + newer, "foreign keys, CHECKs of the orders and of both partitions"


def test_rows_that_break_a_foreign_key_are_counted(server: ScratchServer) -> None:
    for change, broken in BREAKS:
        assert _broken(server, change) == [broken], change
    if server.major >= 18:
        gap = "DELETE FROM prices WHERE valid @> date '2026-02-02'"
        assert _broken(server, gap) == ['offers_id_valid_fkey of "Shop".offers (1 rows)']


def test_rows_that_break_a_check_are_counted(server: ScratchServer) -> None:
    """The function of a CHECK can be replaced; the rows are not checked again by that."""
    stricter = """CREATE OR REPLACE FUNCTION fine(n integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n > 2'"""
    assert _broken(server, stricter) == ['orders_id_check of "Shop".orders (2 rows)']


def test_a_dump_is_not_read_again(server: ScratchServer) -> None:
    found = backup_constraints.check(Restored(server, "shop"), None, jobs=2)
    assert (found.outcome, found.detail["read"]) == ("passed", 0), "its rows were checked when it was restored"


def test_a_check_that_cannot_be_evaluated_is_told(server: ScratchServer) -> None:
    fails = """CREATE OR REPLACE FUNCTION fine(n integer) RETURNS boolean LANGUAGE sql IMMUTABLE
        AS 'SELECT 1 / (n - 1) = 0'"""
    with pytest.raises(psycopg.errors.DivisionByZero):
        _broken(server, fails)
