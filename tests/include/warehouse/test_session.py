"""Whose clock tells what is old: this machine's, once the warehouse's agrees with it."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

import psycopg
import pytest

from include.outcome import ConfigurationError
from include.warehouse import session


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
