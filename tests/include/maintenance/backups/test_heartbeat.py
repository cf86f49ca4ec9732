"""What the heartbeat says of a failover: hand-made logs, and a server that really goes away."""

import threading
import time

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.backups import heartbeat
from include.maintenance.backups.heartbeat import Beat, Writer


def beats(*numbers: int, start: float = 0.0, gap_after: int = 0, gap: float = 0.0) -> list[Beat]:
    """Beats a tenth of a second apart, each taking 0.02 s; from the one after ``gap_after`` on, ``gap`` later."""
    found = []
    for number in numbers:
        begun = start + number * 0.1 + (gap if gap_after and number > gap_after else 0.0)
        found.append(Beat(number, begun, begun + 0.02))
    return found


def test_nothing_lost() -> None:
    # Number 5 is acknowledged at 0.52, the failure is at 0.6, number 6 was in doubt, number 7 is acknowledged at 3.72.
    log = beats(1, 2, 3, 4, 5, 7, 8, gap_after=5, gap=3.0)
    found = heartbeat.compare(log, [6], {1, 2, 3, 4, 5, 7, 8}, failed_at=0.6)
    assert found.unavailable_seconds == pytest.approx(3.2)
    assert found.longest_commit_before_seconds == pytest.approx(0.02)
    assert (found.acknowledged, found.lost, found.lost_seconds) == (7, [], 0.0)
    assert (found.in_doubt, found.in_doubt_kept) == (1, 0)


def test_two_lost_writes_count_from_the_last_one_that_was_kept() -> None:
    log = beats(1, 2, 3, 4, 5, 7, gap_after=5, gap=3.0)
    found = heartbeat.compare(log, [6], {1, 2, 3, 6, 7}, failed_at=0.6)
    assert found.lost == [4, 5]
    assert found.lost_seconds == pytest.approx(0.6 - 0.32)
    assert found.in_doubt_kept == 1, "a commit whose acknowledgement did not arrive is no loss"


def test_everything_lost_and_nothing_after() -> None:
    found = heartbeat.compare(beats(1, 2), [], set(), failed_at=0.4)
    assert found.lost == [1, 2]
    assert found.unavailable_seconds is None
    assert found.lost_seconds == pytest.approx(0.3)


def test_a_write_on_the_old_primary_that_was_acknowledged_while_it_ended_is_one_before() -> None:
    log = [Beat(1, 0.0, 0.02), Beat(2, 0.1, 0.62), Beat(3, 4.0, 4.1)]
    assert heartbeat.compare(log, [], {1, 2, 3}, failed_at=0.6).unavailable_seconds == pytest.approx(4.1 - 0.62)


@pytest.fixture
def database(databases: Databases, platform: psycopg.Connection) -> psycopg.Connection:
    platform.execute(heartbeat.CREATE)
    return platform


def test_the_control_finds_exactly_the_write_that_was_removed(database: psycopg.Connection) -> None:
    log = beats(1, 2, 3)
    for beat in log:
        database.execute(f"INSERT INTO public.{heartbeat.TABLE} VALUES (%s, now())", (beat.number,))
    assert heartbeat.negative_control(database, log, [], 0.35)
    assert heartbeat.held(database) == {1, 2, 3}, "it is there again"
    assert heartbeat.compare(log, [], heartbeat.held(database), 0.35).lost == []


def test_the_control_fails_when_the_comparison_is_blind(
    database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = beats(1, 2, 3)
    for beat in log:
        database.execute(f"INSERT INTO public.{heartbeat.TABLE} VALUES (%s, now())", (beat.number,))
    monkeypatch.setattr(heartbeat, "held", lambda connection: {1, 2, 3})
    assert not heartbeat.negative_control(database, log, [], 0.35)


def test_the_writer_goes_on_after_its_connection_was_ended(database: psycopg.Connection, databases: Databases) -> None:
    name = database.info.dbname

    def connect() -> psycopg.Connection:
        return psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True, application_name="the heart")

    with Writer(connect, 0.01) as writer:
        assert writer.wait_for_more(5, 10)
        with psycopg.connect(databases.postgres.url(name), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the heart'"
            )
        failed_at = time.monotonic()
        assert writer.wait_for_more(10, 10)
    held = heartbeat.held(database)
    assert {beat.number for beat in writer.acknowledged} <= held
    assert heartbeat.compare(writer.acknowledged, writer.in_doubt, held, failed_at).lost == []


def test_what_the_writer_did_not_expect_is_not_swallowed() -> None:
    def connect() -> psycopg.Connection:
        raise ZeroDivisionError

    writer = Writer(connect, 0.01)
    with pytest.raises(ZeroDivisionError), writer:
        assert not writer.wait_for_more(1, 5)
    assert threading.active_count() < 50
