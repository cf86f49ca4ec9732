"""Tables to partition: judged by hand-made facts, and the remedy's SQL run as it stands."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.maintenance.postgres import drift, partitioning
from include.maintenance.postgres.partitioning import Facts
from include.outcome import ConfigurationError, Outcome
from include.settings import settings
from include.warehouse.findings import Finding
from include.warehouse.snapshots import TableSize
from tests.include.maintenance.postgres.partition_remedies import apply
from tests.old_postgres import flush_statistics
from tests.recorded_findings import latest_findings

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
GIB = 2**30


def found() -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings("tables_to_partition")}


def test_growth_is_the_median_slope() -> None:
    days = [(NOON + timedelta(days=n), size) for n, size in ((0, 100), (10, 200), (20, 300), (30, 5000))]
    # Slopes: 10, 10, 163.3, 10, 240, 470; their median is (10 + 163.3) / 2.
    assert partitioning.growth(days) == pytest.approx(86.666, abs=0.01)
    assert partitioning.growth(days[:3]) == 10
    assert partitioning.growth(days[:1]) is None
    assert partitioning.growth([(NOON, 5), (NOON + timedelta(hours=2), 9)]) is None, "two hours say nothing of a month"


def test_the_share_of_inserts_is_that_since_the_last_snapshot() -> None:
    before, now = TableSize("t", 0, 0, 100, 900, 5), TableSize("t", 0, 0, 190, 910, 70)
    assert partitioning.insert_share(now, before) == 0.9
    assert partitioning.insert_share(now, None) == pytest.approx(190 / 1100)
    assert partitioning.insert_share(TableSize("t", 0, 0, 0, 0, 5), None) is None


def test_the_interval_keeps_a_partition_below_20_gib() -> None:
    assert partitioning.interval(None) == "month"
    assert partitioning.interval(20 * GIB / 31) == "month"
    assert partitioning.interval(GIB) == "week"
    assert partitioning.interval(3 * GIB) == "day"


@pytest.mark.parametrize(
    ("facts", "outcome", "why"),
    [
        (Facts(GIB, 1, 0.0, 1.0, 0, "at"), Outcome.OK, "is small enough"),
        (Facts(10 * GIB, 1, None, None, 0, "at"), Outcome.WARNING, "has 10.0 GiB: partition it by at"),
        (Facts(9 * GIB, 1, GIB / 50, 1.0, 0, "at"), Outcome.WARNING,
         "will have 10.0 GiB in 50 days: partition it by at"),
        (Facts(9 * GIB, 1, GIB / 100, 1.0, 0, "at"), Outcome.OK, "is small enough"),
        (Facts(GIB, 1, None, 1.0, 2_000_000, "at"), Outcome.WARNING,
         "loses 2,000,000 rows a month to pruning: partition it by at"),
        (Facts(20 * GIB, 1, None, 0.5, 0, "at"), Outcome.OK,
         "has 20.0 GiB, but 50 % of its changes are updates: partitions by time would not help"),
        (Facts(20 * GIB, 1, None, 1.0, 0, None), Outcome.WARNING,
         "has 20.0 GiB, but has no time column that is NOT NULL to partition it by"),
    ],
)  # fmt: skip
def test_what_to_partition(environment: pytest.MonkeyPatch, facts: Facts, outcome: Outcome, why: str) -> None:
    assert partitioning.judge(facts) == (outcome, why)


# ------------------------------------------------------------------------------------------------- real servers
@pytest.fixture
def low_limit(any_platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    environment.setenv("OPERATIONS__MAINTENANCE__MONTHLY__PARTITION_TABLES_LARGER_THAN_BYTES", "8192")
    settings.cache_clear()
    return any_platform


def test_the_remedy_partitions_the_table_with_its_rows_keys_rights_and_views(low_limit: psycopg.Connection) -> None:
    platform = low_limit
    platform.execute(
        "ALTER TABLE public.audit_logs ADD CHECK (action <> '');"
        "CREATE SCHEMA operations; CREATE VIEW operations.audit_logs WITH (security_barrier) AS"
        " SELECT audit_log_id, created_at FROM public.audit_logs"
    )
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action)"
        " SELECT now() - n * interval '1 hour', 'a', 'b' FROM generate_series(0, 499) AS n"
    )
    flush_statistics(platform)
    drift.take("run 1", NOON)
    partitioning.check("run 1")
    finding = found()["public.audit_logs"]
    assert finding.outcome is Outcome.WARNING
    assert finding.evidence["time_column"] == "created_at"
    assert finding.evidence["insert_share"] == 1
    assert finding.evidence["obstacles"] == []
    assert finding.evidence["confirm"][0].startswith("the primary key (audit_log_id) becomes (audit_log_id, ")
    apply(platform, finding.remedy)

    [(kind,)] = platform.execute("SELECT relkind FROM pg_class WHERE oid = 'public.audit_logs'::regclass")
    assert kind == "p"
    [(partitions,)] = platform.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.audit_logs'::regclass"
    )
    assert partitions == 4
    platform.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'a', 'b')")
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now() + interval '60 days', 'a', 'b')"
    )
    [(count, newest)] = platform.execute("SELECT count(*), max(audit_log_id) FROM public.audit_logs")
    assert (count, newest) == (502, 502), "the identity goes on counting"
    assert platform.execute("SELECT count(*) FROM operations.audit_logs").fetchone() == (502,), "the view sees new rows"
    [(options,)] = platform.execute("SELECT reloptions FROM pg_class WHERE oid = 'operations.audit_logs'::regclass")
    assert options == ["security_barrier=true"]
    [(may,)] = platform.execute("SELECT has_table_privilege('operations_maintainer', 'public.audit_logs', 'DELETE')")
    assert may
    with pytest.raises(psycopg.errors.CheckViolation):
        platform.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'a', '')")
    [(indexes,)] = platform.execute(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'public.audit_logs'::regclass AND indisvalid"
    )
    assert indexes == 2, "the primary key and the index on the time"


def test_a_name_that_must_be_quoted_and_a_serial_column(low_limit: psycopg.Connection) -> None:
    platform = low_limit
    platform.execute('CREATE TABLE public."Old Events" (id serial, "end" timestamp NOT NULL, PRIMARY KEY (id, "end"))')
    platform.execute("""INSERT INTO public."Old Events" ("end") SELECT '2026-01-01' FROM generate_series(1, 900)""")
    drift.take("run 1", NOON)
    partitioning.check("run 1")
    apply(platform, found()['public."Old Events"'].remedy)
    platform.execute("""INSERT INTO public."Old Events" ("end") VALUES ('2026-01-02')""")
    assert platform.execute('SELECT count(*), max(id) FROM public."Old Events"').fetchone() == (901, 901)


def test_what_a_person_must_decide_is_said(low_limit: psycopg.Connection) -> None:
    platform = low_limit
    platform.execute("CREATE TABLE public.notes (audit_log_id bigint REFERENCES public.audit_logs)")
    platform.execute('ALTER TABLE public.audit_logs ADD CONSTRAINT "one\nDROP TABLE" UNIQUE (actor)')
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action) SELECT now(), n, 'b' FROM generate_series(1, 99) n"
    )
    drift.take("run 1", NOON)
    partitioning.check("run 1")
    remedy = found()["public.audit_logs"].remedy
    assert "the foreign key public.notes.notes_audit_log_id_fkey points to it" in remedy
    assert 'the unique key "one?DROP TABLE" (actor) cannot be kept' in remedy
    assert not [line for line in remedy.splitlines() if not line.startswith("-- ")]


def test_the_new_table_protects_its_rows_from_the_first_moment(low_limit: psycopg.Connection) -> None:
    platform = low_limit
    platform.execute("""
        CREATE TABLE public.tenants (name text PRIMARY KEY);
        INSERT INTO public.tenants VALUES ('a'), ('b');
        INSERT INTO public.audit_logs (created_at, actor, action)
            SELECT now(), CASE WHEN n <= 10 THEN 'a' ELSE 'b' END, 'x' FROM generate_series(1, 99) n;
        ALTER TABLE public.audit_logs ADD CONSTRAINT of_tenant
            FOREIGN KEY (actor) REFERENCES public.tenants ON DELETE CASCADE;
        ALTER TABLE public.audit_logs ENABLE ROW LEVEL SECURITY;
        ALTER TABLE public.audit_logs FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON public.audit_logs FOR SELECT USING (actor = current_setting('test.tenant'));
        CREATE POLICY writes ON public.audit_logs FOR INSERT WITH CHECK (actor = current_setting('test.tenant'));
        CREATE POLICY "No B" ON public.audit_logs AS RESTRICTIVE TO escrow_owner USING (actor <> 'b');
    """)
    before = platform.execute(POLICIES).fetchall()
    drift.take("run 1", NOON)
    partitioning.check("run 1")
    remedy = found()["public.audit_logs"].remedy
    assert "\n-- 3." not in remedy
    after_exchange = remedy[remedy.rindex("COMMIT;") :]
    assert "POLICY" not in after_exchange, "nothing is left to a step after the exchange"
    apply(platform, remedy)  # also where a policy cannot be asked, and shows no row
    platform.execute("SET test.tenant = 'a'")  # of whose rows none has the newest key
    assert platform.execute(POLICIES).fetchall() == before
    assert platform.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (10,)
    platform.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now() + '60 days', 'a', 'x')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        platform.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'c', 'x')")
    platform.execute("SET test.tenant = 'b'")
    assert platform.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (0,), "the restrictive policy holds"
    parts = platform.execute(
        "SELECT bool_and(c.relrowsecurity AND c.relforcerowsecurity), count(*) FROM pg_inherits"
        " JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'public.audit_logs'::regclass"
    )
    assert parts.fetchone() == (True, 4)
    keys = platform.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'of_tenant' AND conparentid <> 0"
                            " AND conrelid <> 0 AND confrelid = 'public.tenants'::regclass")  # fmt: skip
    assert keys.fetchone() == (4,), "the old part's own foreign key is one of them"
    platform.execute("ALTER TABLE public.audit_logs NO FORCE ROW LEVEL SECURITY")
    newest = platform.execute("SELECT max(audit_log_id) FROM public.audit_logs").fetchone()
    assert newest == (100,), "the identity goes on counting from rows that no policy shows"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        platform.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'nobody', 'x')")


POLICIES = (
    "SELECT policyname, permissive, roles, cmd, qual, with_check FROM pg_policies"
    " WHERE (schemaname, tablename) = ('public', 'audit_logs') ORDER BY 1"
)


def test_partitioned_tables_and_small_ones_are_no_findings(any_platform: psycopg.Connection) -> None:
    any_platform.execute("CREATE TABLE public.p (at date NOT NULL) PARTITION BY RANGE (at)")
    any_platform.execute("CREATE TABLE public.p1 PARTITION OF public.p DEFAULT")
    drift.take("run 1", NOON)
    partitioning.check("run 1")
    assert list(found()) == ["all other tables"]
    assert found()["all other tables"].evidence == {"tables": 1, "snapshots": 1}


def test_growth_comes_from_the_snapshots(any_platform: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    drift.take("run 1", NOON)
    warehouse.execute("UPDATE ops.platform_snapshot SET taken_at = taken_at - interval '10 days'")
    warehouse.execute("UPDATE ops.platform_table SET bytes = 0")
    drift.take("run 2", NOON)
    warehouse.execute("UPDATE ops.platform_table SET bytes = 9 * 1024^3 WHERE platform_snapshot_id = 2")
    partitioning.check("run 2")
    finding = found()["public.audit_logs"]
    assert finding.outcome is Outcome.WARNING
    assert finding.evidence["bytes_per_day"] == pytest.approx(0.9 * GIB, rel=1e-3)
    assert finding.evidence["interval"] == "week"
    assert "will have 10.0 GiB in 1 days" in finding.summary


def test_the_share_of_inserts_is_that_of_a_day_at_least(
    low_limit: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    low_limit.execute(
        "INSERT INTO public.audit_logs (created_at, action) SELECT now(), 'b' FROM generate_series(1, 99)"
    )
    flush_statistics(low_limit)
    counters = {"week": (100, 0, "7 days"), "earlier": (1000, 0, "90 minutes"), "now": (1000, 10, "0")}
    for run_id, (inserted, updated, age) in counters.items():
        drift.take(run_id, NOON)
        warehouse.execute(
            "UPDATE ops.platform_table SET rows_inserted = %s, rows_updated = %s WHERE platform_snapshot_id ="
            " (SELECT platform_snapshot_id FROM ops.platform_snapshot WHERE run_id = %s)",
            (inserted, updated, run_id),
        )
        warehouse.execute(
            "UPDATE ops.platform_snapshot SET taken_at = taken_at - %s::interval WHERE run_id = %s", (age, run_id)
        )
    partitioning.check("now")
    # 900 of 910 since last week; the 90 minutes since the newest snapshot saw 10 updates and nothing else.
    assert found()["public.audit_logs"].evidence["insert_share"] == pytest.approx(900 / 910)
    assert found()["public.audit_logs"].outcome is Outcome.WARNING


def test_without_a_snapshot_the_search_is_unknown(platform: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="the run nothing has no row"):
        partitioning.check("nothing")
    assert {name: one.outcome for name, one in found().items()} == {"the check": Outcome.UNKNOWN}
