"""A transaction's errors in people's words, and whose clock tells what is old."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

import psycopg
import pytest

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse import archives, legal_holds, session


def _clock(environment: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """Let this process take the present for so much later than it is."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    environment.setattr(session, "datetime", Ahead)


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(minutes=4), timedelta(minutes=-4)])
def test_the_present(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, ahead: timedelta) -> None:
    _clock(environment, ahead)
    before = datetime.now(UTC) + ahead
    assert before <= session.present() <= datetime.now(UTC) + ahead


@pytest.mark.parametrize("ahead", [timedelta(days=30), timedelta(minutes=-6)])
def test_a_clock_that_is_wrong(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    warehouse.execute(f"ALTER DATABASE {warehouse.info.dbname} SET timezone = 'Asia/Tokyo'".encode())
    _clock(environment, ahead)
    with pytest.raises(ConfigurationError) as raised:
        session.present()
    said = re.fullmatch(
        r"this worker's clock says (.{16}) UTC but the warehouse's (.{16}) UTC, so what is old cannot be told and "
        "nothing is deleted; set the clock that is wrong",
        str(raised.value),
    )
    assert said is not None
    ours, theirs = (datetime.fromisoformat(text) for text in said.groups())
    assert abs(ours - theirs - ahead) <= timedelta(minutes=1), "they are told to the minute"


def test_errors_on_a_connection_of_the_callers_own_are_named_too(warehouse: psycopg.Connection) -> None:
    with connections.postgres("warehouse", autocommit=True) as connection:
        assert legal_holds.active(connection, "public.audit_logs") == ()
        assert archives.get(connection, "A-1") is None
        warehouse.execute("REVOKE ALL ON ops.archive FROM warehouse_writer")
        with pytest.raises(ConfigurationError, match=r"connection warehouse lacks .* table archive\); run python -m"):
            archives.get(connection, "A-1")
        warehouse.execute("ALTER TABLE ops.legal_hold RENAME TO held")
        with pytest.raises(ConfigurationError, match=r'not migrated \(relation "ops.legal_hold" does not exist\); run'):
            legal_holds.active(connection, "public.audit_logs")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(SourceUnavailable, match="the connection warehouse was lost or timed out: "):
            archives.get(connection, "A-1")
        with pytest.raises(SourceUnavailable, match="the connection warehouse was lost or timed out: "):
            legal_holds.active(connection, "public.audit_logs")
