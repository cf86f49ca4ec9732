"""Keys that run out: shares and days worked out by hand, then sequences and columns on real servers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.maintenance.postgres import key_exhaustion
from include.maintenance.postgres.key_exhaustion import Rate, Supply
from include.outcome import Outcome, SourceUnavailable
from include.warehouse.findings import Finding
from tests.recorded_findings import latest_findings

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
INTEGER, BIGINT = 2**31 - 1, 2**63 - 1


def sequence(**given: Any) -> dict[str, Any]:
    usual = {"minimum": 1, "maximum": BIGINT, "start": 1, "increment": 1, "cycle": False, "last_value": None}
    return usual | {"columns": [], "read_at": NOON} | given


def column(highest: int, lowest: int = 0, *, fed: bool = True) -> dict[str, Any]:
    return {"table": "public.t", "column": "c", "lowest": lowest, "highest": highest, "fed": fed}


def told(**given: Any) -> tuple[int, int, int, bool] | None:
    of = key_exhaustion.supply(sequence(**given))
    return (of.used, of.left, of.limit, of.column is not None) if of else None


def test_what_is_left_to_hand_out() -> None:
    assert told(maximum=100, last_value=60) == (60, 40, 100, False)
    assert told(maximum=100, last_value=61, increment=10) == (7, 3, 100, False), "1, 11, … 61 and 71, 81, 91"
    assert told(last_value=2_000_000_000, columns=[column(INTEGER)]) == (2_000_000_000, 147_483_647, INTEGER, True)
    assert told(maximum=INTEGER, last_value=5, columns=[column(INTEGER)]) == (5, INTEGER - 5, INTEGER, True)
    assert told(maximum=100, last_value=5, columns=[column(INTEGER)]) == (5, 95, 100, False)
    assert told(maximum=100, minimum=1, start=51) == (0, 50, 100, False), "never called: 51 to 100 are to come"
    assert told(last_value=40_000, columns=[column(32_767)]) == (40_000, 0, 32_767, True), "it is full already"


def test_a_descending_sequence_runs_to_the_other_end() -> None:
    down = {"increment": -1, "minimum": -1000, "maximum": -1, "start": -1}
    assert told(**down, last_value=-250) == (250, 750, -1000, False)
    assert told(**down, last_value=-250, columns=[column(0, -500)]) == (250, 250, -500, True)
    assert told(**down | {"increment": -100}, last_value=-901) == (10, 0, -1000, False)
    assert told(**down) == (0, 1000, -1000, False)


def test_one_that_cycles_has_no_end_but_that_of_a_narrower_column() -> None:
    assert told(maximum=100, last_value=60, cycle=True) is None
    assert told(maximum=INTEGER, last_value=60, cycle=True, columns=[column(INTEGER)]) is None
    assert told(last_value=60, cycle=True, columns=[column(100)]) == (60, 40, 100, True)


def test_the_column_that_is_full_first_is_named() -> None:
    of = key_exhaustion.supply(sequence(last_value=9, columns=[column(INTEGER), column(32_767, fed=False)]))
    assert of is not None
    assert of.column is not None
    assert not of.column["fed"], "the one that refers to it"
    of = key_exhaustion.supply(sequence(last_value=9, columns=[column(INTEGER, fed=False), column(INTEGER)]))
    assert of is not None
    assert of.column is not None
    assert of.column["fed"], "of equal ones the key itself"


def test_how_fast_it_goes() -> None:
    # 3,000 numbers in 30 days, by steps of 1 and of 10.
    now = sequence(last_value=5000)
    earlier = (2000, NOON - timedelta(days=30))
    assert key_exhaustion.rate(now, earlier) == Rate(100, earlier[1])
    assert key_exhaustion.rate(now | {"increment": 10}, earlier) == Rate(10, earlier[1])
    assert key_exhaustion.rate(sequence(last_value=-5000, increment=-1), (-2000, earlier[1])) == Rate(100, earlier[1])
    assert key_exhaustion.rate(now, (5001, earlier[1])) is None, "it was set back"
    assert key_exhaustion.rate(now, None) is None


def test_an_earlier_reading_is_at_least_20_hours_old() -> None:
    month_ago, hour_ago = (NOON - timedelta(days=30)).isoformat(), (NOON - timedelta(hours=1)).isoformat()
    first = {"last_value": 7, "read_at": month_ago}
    assert key_exhaustion.earlier_reading(first, NOON) == (7, NOON - timedelta(days=30))
    repeated = {"last_value": 9, "read_at": hour_ago, "earlier": first}
    assert key_exhaustion.earlier_reading(repeated, NOON) == (7, NOON - timedelta(days=30)), "a repeated run"
    assert key_exhaustion.earlier_reading({"last_value": 9, "read_at": hour_ago, "earlier": None}, NOON) is None
    assert key_exhaustion.earlier_reading({}, NOON) is None


@pytest.mark.parametrize(
    ("used", "days", "forecast", "outcome"),
    [
        (9, None, False, Outcome.OK),
        (10, None, False, Outcome.UNKNOWN),
        (10, None, True, Outcome.OK),
        (10, 365.0, True, Outcome.OK),
        (10, 364.9, True, Outcome.WARNING),
        (10, 89.9, True, Outcome.CRITICAL),
        (69, 9999.0, True, Outcome.OK),
        (70, None, True, Outcome.WARNING),
        (70, None, False, Outcome.WARNING),
        (90, 9999.0, True, Outcome.CRITICAL),
    ],
)
def test_how_bad_it_is(environment: Any, used: int, days: float | None, forecast: bool, outcome: Outcome) -> None:
    assert key_exhaustion.judge(Supply(used, 100 - used, 100, None), days, forecast=forecast) is outcome


# ------------------------------------------------------------------------------------------------- real servers
def checked(owner: psycopg.Connection, run_id: str = "run") -> dict[str, Finding]:
    owner.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO operations_maintainer")
    key_exhaustion.check(run_id)
    return {one.finding.resource: one.finding for one in latest_findings("key_exhaustion")}


def test_fresh_sequences_are_ok_and_counted(any_platform: psycopg.Connection) -> None:
    any_platform.execute("CREATE TABLE public.a (id serial PRIMARY KEY)")
    any_platform.execute("CREATE TEMPORARY SEQUENCE basket MAXVALUE 2")
    found = checked(any_platform)
    assert set(found) == {"all other sequences"}
    assert found["all other sequences"].outcome is Outcome.OK
    assert found["all other sequences"].evidence == {"looked_at": 2, "columns": 2, "reported": 0}


def test_sequences_and_the_columns_that_they_fill(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.small (id smallint GENERATED ALWAYS AS IDENTITY);"
        "CREATE SEQUENCE public.wide; CREATE TABLE public.trap (id integer DEFAULT nextval('public.wide'));"
        "CREATE SEQUENCE public.down AS integer INCREMENT -1;"
        "CREATE SEQUENCE public.round AS smallint CYCLE; CREATE SEQUENCE public.few MAXVALUE 10;"
        "SELECT setval('public.small_id_seq', 29491), setval('public.wide', 1610612736),"
        " setval('public.down', -1610612736), setval('public.round', 32000)"
    )
    found = checked(any_platform)
    assert {name: one.outcome.value for name, one in found.items()} == {
        "all other sequences": "ok", "public.down": "warning", "public.round": "not_applicable",
        "public.small_id_seq": "critical", "public.wide": "warning",
    }  # fmt: skip
    trap = found["public.wide"]
    assert trap.evidence["used_share"] == 0.75  # 1,610,612,736 of 2,147,483,647
    assert (trap.evidence["numbers_left"], trap.evidence["limit"]) == (536_870_911, INTEGER)
    assert trap.evidence["limited_by"] == "public.trap.id"
    assert "until public.trap.id (integer) ends at 2,147,483,647; for how long they last is unknown" in trap.summary
    assert found["public.down"].evidence["numbers_left"] == 536_870_912
    assert found["public.small_id_seq"].evidence["numbers_left"] == 3276
    assert "starts over at 1 (CYCLE)" in found["public.round"].summary


def test_a_sequence_that_may_not_be_read_is_unknown(any_platform: psycopg.Connection) -> None:
    any_platform.execute('CREATE TABLE public."Orders" (id serial)')
    any_platform.execute("SELECT setval('public.\"Orders_id_seq\"', 2147483000)")
    checked(any_platform, "run 0")
    any_platform.execute('REVOKE ALL ON SEQUENCE public."Orders_id_seq" FROM escrow_owner, operations_maintainer')
    key_exhaustion.check("run 1")
    found = {one.finding.resource: one.finding for one in latest_findings("key_exhaustion")}
    unknown = found["sequences that may not be read"]
    assert unknown.outcome is Outcome.UNKNOWN
    assert unknown.remedy == 'GRANT SELECT ON SEQUENCE public."Orders_id_seq" TO operations_maintainer;'
    any_platform.execute(unknown.remedy)
    key_exhaustion.check("run 2")
    assert [one.finding.outcome.value for one in latest_findings("key_exhaustion")] == ["critical", "ok"]


def test_two_readings_become_a_forecast(any_platform: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    any_platform.execute("CREATE TABLE public.a (id serial); SELECT setval('public.a_id_seq', 300000000)")
    first = checked(any_platform, "run 1")["public.a_id_seq"]
    assert first.outcome is Outcome.UNKNOWN, "14 % are used, and how fast is not known yet"
    warehouse.execute(
        "UPDATE ops.finding SET evidence ="
        " jsonb_set(evidence, '{read_at}', to_jsonb((evidence ->> 'read_at')::timestamptz - interval '30 days'))"
        " WHERE resource = 'public.a_id_seq'"
    )
    any_platform.execute("SELECT setval('public.a_id_seq', 600000000)")
    for _ in range(2):
        # 10,000,000 a day; of 2,147,483,647 there are 1,547,483,647 left: 154.7 days
        second = checked(any_platform, "run 2")["public.a_id_seq"]
        assert second.outcome is Outcome.WARNING, "28 % are used, but that goes fast"
        assert second.evidence["days_left"] == pytest.approx(154.7, abs=0.2)
        assert second.evidence["numbers_per_day"] == pytest.approx(10_000_000, rel=1e-3)
        assert "they last 155 days at the rate since 20" in second.summary


def test_what_refers_to_a_key_is_full_before_it(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.users (id bigserial PRIMARY KEY);"
        "CREATE TABLE public.profiles (user_id bigint PRIMARY KEY REFERENCES public.users);"
        "CREATE TABLE public.photos (user_id integer REFERENCES public.profiles);"
        "CREATE TABLE public.keys (id bigint PRIMARY KEY);"
        "CREATE TABLE public.uses (key integer REFERENCES public.keys);"
        "SELECT setval('public.users_id_seq', 2000000000)"
    )
    found = checked(any_platform)
    users = found["public.users_id_seq"]
    assert users.outcome is Outcome.CRITICAL
    assert users.evidence["limited_by"] == "public.photos.user_id", "over the foreign key of profiles"
    assert users.evidence["columns"] == [
        "public.photos.user_id integer", "public.profiles.user_id bigint", "public.users.id bigint"
    ]  # fmt: skip
    assert "TABLE public.users " not in users.remedy, "that column is wide enough"
    unfed = found["foreign key uses_key_fkey of public.uses (key)"]
    assert unfed.outcome is Outcome.WARNING
    assert "public.keys.id (bigint)" in unfed.summary


def test_a_key_of_a_partition_or_an_heir_is_filled_like_that_of_its_origin(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.logs (id bigserial PRIMARY KEY) PARTITION BY RANGE (id);"
        'CREATE TABLE public."Logs 1" PARTITION OF public.logs FOR VALUES FROM (1) TO (9);'
        'CREATE TABLE public.notes (log integer REFERENCES public."Logs 1");'
        'CREATE TABLE public.parent ("Id" bigserial);'
        'CREATE TABLE public.heir (UNIQUE ("Id")) INHERITS (public.parent);'
        'CREATE TABLE public.uses (heir integer REFERENCES public.heir ("Id"));'
        "CREATE TABLE public.own (id bigint PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE public.own_1 PARTITION OF public.own FOR VALUES FROM (1) TO (9);"
        "CREATE TABLE public.other (own integer REFERENCES public.own_1);"
        "SELECT setval('public.logs_id_seq', 2000000000)"
    )
    found = checked(any_platform)
    assert set(found) == {
        "all other sequences", "public.logs_id_seq", "foreign key other_own_fkey of public.other (own)"
    }  # fmt: skip
    assert found["public.logs_id_seq"].evidence["limited_by"] == "public.notes.log"


def test_partitions_and_domains(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE DOMAIN public.positive AS integer CHECK (value > 0); CREATE DOMAIN public.nested AS public.positive;"
        "CREATE SEQUENCE public.parted;"
        "CREATE TABLE public.logs (id public.nested NOT NULL DEFAULT nextval('public.parted'))"
        " PARTITION BY RANGE (id);"
        "CREATE TABLE public.logs_1 PARTITION OF public.logs FOR VALUES FROM (1) TO (10);"
        "CREATE TABLE public.logs_2 PARTITION OF public.logs FOR VALUES FROM (10) TO (20);"
        "CREATE TABLE public.parent (id serial); CREATE TABLE public.heir () INHERITS (public.parent);"
        "SELECT setval('public.parted', 2000000000), setval('public.parent_id_seq', 2000000000)"
    )
    found = checked(any_platform)
    assert found["public.parted"].evidence["columns"] == ["public.logs.id public.nested"]
    assert found["public.parent_id_seq"].evidence["columns"] == ["public.parent.id integer"]
    any_platform.execute(found["public.parent_id_seq"].remedy)
    [(type_name,)] = any_platform.execute(
        "SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'public.heir'::regclass AND attname = 'id'"
    )
    assert type_name == "bigint"


def test_a_search_that_fails_is_unknown(platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        key_exhaustion.check("run")
    assert [one.finding.outcome for one in latest_findings("key_exhaustion")] == [Outcome.UNKNOWN]
