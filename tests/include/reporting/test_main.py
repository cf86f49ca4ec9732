"""The reports on the command line."""

from __future__ import annotations

import psycopg
import pytest

from include.reporting import __main__ as command
from include.reporting import reports
from tests.include.reporting.report_rows import (
    ACTIVITY,
    DAY,
    HEALTH,
    WINDOW,
    insert_day,
    one,
)


def test_the_command_prints_what_is_stored(warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["show", "--latest"]) == 1
    assert capsys.readouterr().err.startswith("there is no report in the warehouse yet;")
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    health, activity = one(warehouse, HEALTH).markdown, one(warehouse, ACTIVITY).markdown
    assert command.main(["show", "2026-10-03", "--kind", ACTIVITY]) == 0
    assert capsys.readouterr().out == activity
    assert command.main(["show", "--latest"]) == 0
    assert capsys.readouterr().out == f"{health}\n{activity}"
    assert command.main(["show", "2026-10-04"]) == 1
    assert "there is no report of 2026-10-04" in capsys.readouterr().err
    assert command.main(["show", "yesterday"]) == 1
    assert capsys.readouterr().err.startswith("'yesterday' is not a day;")
