"""Foreign keys without an index are found, and their remedy leaves nothing to find, on PostgreSQL 18 and 15."""

from __future__ import annotations

import psycopg
import pytest

from include.maintenance.postgres import index_review
from include.outcome import Outcome
from include.platform import database
from tests.include.maintenance.postgres.index_reviews import findings_of, review

OK = Outcome.OK


def test_foreign_keys_without_an_index(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b), single int UNIQUE);
        CREATE TABLE child (
            x int, y int, "Key" int CONSTRAINT bare REFERENCES parent (single),
            partial int CONSTRAINT partly REFERENCES parent (single),
            nullable int CONSTRAINT not_null_only REFERENCES parent (single),
            hashed int CONSTRAINT hashed REFERENCES parent (single),
            second int CONSTRAINT second REFERENCES parent (single),
            CONSTRAINT two FOREIGN KEY (x, y) REFERENCES parent (a, b)
        );
        CREATE INDEX ON child (y, x, "Key");                      -- the other order serves as well
        CREATE INDEX ON child (partial) WHERE partial > 5;        -- leaves rows out
        CREATE INDEX ON child (nullable) WHERE nullable IS NOT NULL;
        CREATE INDEX ON child USING hash (hashed);
        CREATE INDEX ON child (x, second);                        -- not at the beginning
        INSERT INTO parent VALUES (1, 1, 1);
        INSERT INTO child SELECT 1, 1, 1, 1, 1, 1, 1 FROM generate_series(1, 1000);
    """)
    review()
    found = findings_of("foreign_keys_without_index", "r1")
    assert sorted(found) == ["public.child bare", "public.child partly", "public.child second"]
    bare = found["public.child bare"]
    assert bare.remedy == 'CREATE INDEX CONCURRENTLY ON public.child ("Key");'
    size = reviewed.execute("SELECT pg_relation_size('child')").fetchone()
    assert bare.estimated_gain == {"bytes_not_read_per_deletion": size[0] if size else None}
    for one in found.values():
        reviewed.execute(one.remedy.encode())
    review()
    whole = findings_of("foreign_keys_without_index", "r1")["all foreign keys"]
    assert (whole.outcome, whole.evidence) == (OK, {"reviewed": 6})


def test_a_foreign_key_of_a_partitioned_table_is_indexed_while_others_write(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE "Whole" (at int, "Parent" int REFERENCES parent) PARTITION BY RANGE (at);
        CREATE TABLE early PARTITION OF "Whole" FOR VALUES FROM (0) TO (10);
        CREATE TABLE late PARTITION OF "Whole" FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (at);
        CREATE TABLE late_1 PARTITION OF late FOR VALUES FROM (10) TO (20);
        CREATE TABLE "early_Parent_idx" ();
        INSERT INTO parent VALUES (1);
    """)
    review()
    remedy = findings_of("foreign_keys_without_index", "r1")['public."Whole" Whole_Parent_fkey'].remedy
    assert remedy.splitlines()[1:] == [
        "SET lock_timeout = '800ms';",
        'CREATE INDEX "Whole_Parent_idx" ON ONLY public."Whole" ("Parent");',
        'CREATE INDEX "late_Parent_idx" ON ONLY public.late ("Parent");',
        "RESET lock_timeout;",
        'CREATE INDEX CONCURRENTLY "early_Parent_idx1" ON public.early ("Parent");',
        'CREATE INDEX CONCURRENTLY "late_1_Parent_idx" ON public.late_1 ("Parent");',
        "SET lock_timeout = '800ms';",
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public."early_Parent_idx1";',
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public."late_Parent_idx";',
        'ALTER INDEX public."late_Parent_idx" ATTACH PARTITION public."late_1_Parent_idx";',
        "RESET lock_timeout;",
    ]
    with psycopg.connect(reviewed.info.dsn, password=reviewed.info.password) as writer:
        writer.execute('INSERT INTO "Whole" VALUES (1, 1)')
        with pytest.raises(psycopg.errors.LockNotAvailable):  # and nobody waits behind it meanwhile
            _apply(reviewed, remedy)
        writer.rollback()
    _apply(reviewed, remedy)
    review()
    assert findings_of("foreign_keys_without_index", "r1")["all foreign keys"].outcome is OK
    assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK


PARTITIONED = """
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE "Whole" (at int, "Parent" int REFERENCES parent) PARTITION BY RANGE (at);
    CREATE TABLE early ("Parent" int, at int);
    ALTER TABLE "Whole" ATTACH PARTITION early FOR VALUES FROM (0) TO (10);
    CREATE TABLE late PARTITION OF "Whole" FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (at);
    CREATE TABLE late_1 PARTITION OF late FOR VALUES FROM (10) TO (20);
"""


def _apply(connection: psycopg.Connection, remedy: str) -> None:
    for statement in remedy.splitlines():
        if not statement.startswith("--"):
            connection.execute(statement.encode())


def test_partitions_with_indexes_of_their_own_are_indexed(reviewed: psycopg.Connection) -> None:
    reviewed.execute(PARTITIONED.encode())
    reviewed.execute('CREATE INDEX mine ON early ("Parent"); CREATE INDEX wide ON late_1 ("Parent", at)')
    review()
    assert findings_of("foreign_keys_without_index", "r1")["all foreign keys"].outcome is OK
    reviewed.execute("DROP INDEX wide; INSERT INTO parent VALUES (1); INSERT INTO late VALUES (10, 1)")
    review()
    found = findings_of("foreign_keys_without_index", "r1")['public."Whole" Whole_Parent_fkey']
    assert found.summary.endswith('reads all of 1 of the partitions of public."Whole".')
    assert found.estimated_gain == {"bytes_not_read_per_deletion": 8192}, "the other one is not read"
    assert [line for line in found.remedy.splitlines() if "lock_timeout" not in line][1:] == [
        'CREATE INDEX "Whole_Parent_idx" ON ONLY public."Whole" ("Parent");',
        'CREATE INDEX "late_Parent_idx" ON ONLY public.late ("Parent");',
        'CREATE INDEX CONCURRENTLY "late_1_Parent_idx" ON public.late_1 ("Parent");',
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public.mine;',
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public."late_Parent_idx";',
        'ALTER INDEX public."late_Parent_idx" ATTACH PARTITION public."late_1_Parent_idx";',
    ]
    _apply(reviewed, found.remedy)
    review()
    for check, whole in (
        ("foreign_keys_without_index", "all foreign keys"),
        ("invalid_indexes", "all indexes"),
        ("redundant_indexes", "all indexes"),
    ):
        assert findings_of(check, "r1")[whole].outcome is OK


def test_the_index_of_a_part_is_attached_with_all_below_it(reviewed: psycopg.Connection) -> None:
    reviewed.execute(PARTITIONED.encode())
    reviewed.execute("""
        CREATE INDEX other_order ON early ("Parent" DESC) WHERE at > 5;  -- cannot be attached, leaves rows out
        CREATE INDEX of_late ON late ("Parent");
    """)
    review()
    found = findings_of("foreign_keys_without_index", "r1")['public."Whole" Whole_Parent_fkey']
    assert [line for line in found.remedy.splitlines() if "lock_timeout" not in line][1:] == [
        'CREATE INDEX "Whole_Parent_idx" ON ONLY public."Whole" ("Parent");',
        'CREATE INDEX CONCURRENTLY "early_Parent_idx" ON public.early ("Parent");',
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public."early_Parent_idx";',
        'ALTER INDEX public."Whole_Parent_idx" ATTACH PARTITION public.of_late;',
    ]
    _apply(reviewed, found.remedy)
    review()
    assert findings_of("foreign_keys_without_index", "r1")["all foreign keys"].outcome is OK
    assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK


def test_a_foreign_key_with_a_period_is_looked_up_by_gist(reviewed: psycopg.Connection) -> None:
    if reviewed.info.server_version < 180000:
        pytest.skip("keys have no periods before PostgreSQL 18")
    reviewed.execute("""
        CREATE TABLE parent (id int4range, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
        CREATE TABLE child (id int4range, valid daterange,
                            CONSTRAINT key FOREIGN KEY (id, PERIOD valid) REFERENCES parent (id, PERIOD valid));
    """)
    review()
    remedy = findings_of("foreign_keys_without_index", "r1")["public.child key"].remedy
    assert remedy == "CREATE INDEX CONCURRENTLY ON public.child USING gist (id, valid);"
    reviewed.execute(remedy.encode())
    review()
    assert findings_of("foreign_keys_without_index", "r1")["all foreign keys"].outcome is OK


def test_names_of_indexes_are_as_long_as_the_server_keeps_them() -> None:
    taken: set[tuple[str, str]] = set()
    first, second = (index_review._free_name("public", "ä" * 31, "column" * 9, taken) for _ in range(2))
    assert (first[-7:-1], second[-7:-1]) == ("mn_idx", "n_idx1")
    assert first != second
    assert max(len(name[1:-1].encode()) for name in (first, second)) <= 63


def test_a_version_that_corrupts_indexes_is_updated_first(
    reviewed: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "server_version", lambda _: 140003)
    reviewed.execute("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (parent_id int REFERENCES parent)")
    review()
    [found] = findings_of("foreign_keys_without_index", "r1").values()
    assert found.remedy.splitlines() == [
        "-- PostgreSQL 14.0 to 14.3 may corrupt what it builds CONCURRENTLY: update to 14.4 first.",
        "CREATE INDEX CONCURRENTLY ON public.child (parent_id);",
    ]


def test_an_invalid_index_serves_no_foreign_key(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE child (parent_id int REFERENCES parent);
        INSERT INTO parent VALUES (1);
        INSERT INTO child VALUES (1), (1);
    """)
    with pytest.raises(psycopg.errors.UniqueViolation):
        reviewed.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON child (parent_id)")
    review()
    assert list(findings_of("foreign_keys_without_index", "r1")) == ["public.child child_parent_id_fkey"]
