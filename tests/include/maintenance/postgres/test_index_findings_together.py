"""What several checks of the index review say together leaves no column without an index."""

import psycopg

from include.outcome import Outcome
from tests.include.maintenance.postgres.index_reviews import age, findings_of, review
from tests.include.maintenance.postgres.partition_remedies import confirmed
from tests.old_postgres import flush_statistics


def _reviewed_after_scans(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, indexes: str, others: str
) -> None:
    """Review some indexes of ``t``, and 36 days later again, scanned meanwhile as if the planner avoided the others."""
    reviewed.execute("CREATE TABLE t (a int, b int, c int); INSERT INTO t SELECT n, n, n FROM generate_series(1, 9) n")
    reviewed.execute(indexes.encode())
    review("first")
    age(warehouse, "first", 36)
    scan = "SET LOCAL enable_seqscan = off; SELECT FROM t WHERE a = 3"
    reviewed.execute(f"BEGIN; DROP INDEX {others}; {scan}; ROLLBACK".encode())
    flush_statistics(reviewed)
    review("second")


def test_two_findings_together_never_take_every_index_of_a_column(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    """The planner prefers the smaller index, so the larger one that could do its work is never scanned."""
    indexes = "CREATE INDEX small ON t (a); CREATE INDEX large ON t (a, b)"
    _reviewed_after_scans(reviewed, warehouse, indexes, "large")
    redundant, unused = findings_of("redundant_indexes", "second"), findings_of("unused_indexes", "second")
    assert "public.small" not in unused
    assert redundant["public.small"].remedy.endswith("\n--   DROP INDEX CONCURRENTLY public.small;")
    about_large = unused["public.large"]
    assert about_large.outcome is Outcome.WARNING
    assert about_large.remedy == (
        "-- Drop this one or public.small, never both: redundant_indexes keeps this one to do the other's work."
    )
    reviewed.execute(confirmed(redundant["public.small"].remedy).encode())
    reviewed.execute(about_large.remedy.encode())
    left = reviewed.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass")
    assert left.fetchall() == [("large",)]
    age(warehouse, "second", 0.1)
    review("third")
    assert findings_of("unused_indexes", "third")["public.large"].remedy.splitlines() == [
        "-- First see that idx_scan in pg_stat_user_indexes is still 0 on primary; then:",
        "--   DROP INDEX CONCURRENTLY public.large;",
    ]


def test_a_name_of_several_lines_stays_within_the_comment(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    indexes = 'CREATE INDEX "small\nDROP TABLE t; --" ON t (a); CREATE INDEX large ON t (a, b)'
    _reviewed_after_scans(reviewed, warehouse, indexes, "large")
    [line] = findings_of("unused_indexes", "second")["public.large"].remedy.splitlines()
    assert line.startswith('-- Drop this one or public."small?DROP TABLE t; --", never both')


def test_nor_do_they_where_a_partition_has_the_same_index_twice(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    reviewed.execute("""
        CREATE TABLE p (id int, v int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        INSERT INTO p SELECT n % 10, n FROM generate_series(1, 99) AS n;
        CREATE INDEX whole ON ONLY p (v);
        CREATE INDEX part ON p1 (v);
        ALTER INDEX whole ATTACH PARTITION part;
        CREATE INDEX again ON p1 (v);
    """)
    review("first")
    age(warehouse, "first", 36)
    scan = "SET LOCAL enable_seqscan = off; SELECT FROM p WHERE v = 3"
    reviewed.execute(f"BEGIN; DROP INDEX whole; {scan}; ROLLBACK".encode())  # the planner takes the other one
    flush_statistics(reviewed)
    review("second")
    redundant, unused = findings_of("redundant_indexes", "second"), findings_of("unused_indexes", "second")
    assert (list(redundant), redundant["public.again"].evidence["kept_index"]) == (["public.again"], "public.part")
    assert redundant["public.again"].remedy.endswith("\n--   DROP INDEX CONCURRENTLY public.again;")
    assert unused["public.whole"].remedy.startswith("-- Drop this one or public.again, never both")
    reviewed.execute(confirmed(redundant["public.again"].remedy).encode())


def test_nor_do_they_where_one_does_the_work_of_another_that_does_the_work_of_a_third(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    indexes = "CREATE INDEX one ON t (a); CREATE INDEX two ON t (a, b); CREATE INDEX three ON t (a, b, c)"
    _reviewed_after_scans(reviewed, warehouse, indexes, "two, three")
    for check in ("redundant_indexes", "unused_indexes"):
        for found in findings_of(check, "second").values():
            remedy = confirmed(found.remedy).replace("INDEX CONCURRENTLY", "INDEX CONCURRENTLY IF EXISTS")
            reviewed.execute(remedy.encode())
    left = reviewed.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass")
    assert left.fetchall() == [("three",)]
