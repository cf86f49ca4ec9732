"""How much of a day's logs was there: lines that cannot be read, what nobody knows of, and logs that are gone."""

import gzip
import os
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.include.reporting.traffic_lines import (
    DAY,
    Warehouse,
    at,
    count,
    everything,
    full_day,
    line,
    log_folder,  # noqa: F401 - the fixture logs
    run,
    subject,
)
from tests.include.reporting.traffic_recount import json_line

FORMAT = "docs/source-contract.md tells their format"
WEEK = [DAY + timedelta(days=n) for n in range(7)]


def combined(lines: Iterable[str]) -> list[str]:
    """Lines without their response time, as nginx's own format has them: broken ones."""
    return [one.rpartition(" ")[0] + "\n" for one in lines]


def put(path: Path, lines: Iterable[str], written: datetime) -> None:
    text = "".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    os.utime(path, (written.timestamp(), written.timestamp()))


def broken(warehouse: Warehouse, day: date = DAY) -> tuple[int, int]:
    """Lines of a day, and those of them that could not be read."""
    return count(warehouse, day), count(warehouse, day, "lines_broken")


# ------------------------------------------------------------------------------------------ unreadable lines
def test_lines_that_cannot_be_read_lower_the_completeness(logs: Path, warehouse: Warehouse) -> None:
    api = combined(line(at(hour), "GET /api/x HTTP/1.1") for hour in range(0, 24, 2))
    (logs / "access.log").write_text("".join(full_day(per_hour=2) + api))
    run()
    told = f"12 of 60 access log lines could not be read (access.log); {FORMAT}"
    assert subject(warehouse)[:3] == ("partial", Decimal("0.80000"), told)
    assert broken(warehouse) == (60, 12)


def test_missing_hours_and_unreadable_lines_are_both_said(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day()[:12] + combined(full_day()[:4])))
    run()
    told = f"no line from 12:00 to 24:00; 4 of 16 access log lines could not be read (access.log); {FORMAT}"
    assert subject(warehouse)[:3] == ("partial", Decimal("0.37500"), told), "half of the hours, 12 of 16 lines"


@pytest.mark.parametrize(("number", "expected"), [(1, ("complete", 1)), (2, ("partial", Decimal("0.98019")))])
def test_a_few_broken_lines_leave_a_day_complete(
    logs: Path, warehouse: Warehouse, number: int, expected: tuple[str, Decimal]
) -> None:
    """One of 100 lines is no more than 1 %, two of 101 are."""
    lines = [*full_day(per_hour=4), *[line(at(23.9))] * 3]
    (logs / "access.log").write_text("".join(lines + ["\\x16\\x03\n"] * number))
    run()
    assert (subject(warehouse)[:2], broken(warehouse)) == (expected, (99 + number, number))


def test_a_file_of_which_nothing_can_be_read_lowers_the_days_that_its_lines_name(
    logs: Path, warehouse: Warehouse
) -> None:
    """A server of its own, in another format: what its lines name is all that is known of them."""
    for day in WEEK[:3]:
        put(logs / f"access.log-{day}", full_day(day), at(24, day))
    api = combined(full_day(per_hour=3)[:6] + full_day(WEEK[1]))
    put(logs / "access.log.api", [*api, "an odd line of the second day\n"], at(0, WEEK[2]))
    for day in WEEK[:3]:
        assert run(day) == [day]
    told = f"6 of 30 access log lines could not be read (access.log.api); {FORMAT}"
    assert (*subject(warehouse)[:3], *broken(warehouse)) == ("partial", Decimal("0.80000"), told, 30, 6)
    assert (*subject(warehouse, WEEK[1])[:2], *broken(warehouse, WEEK[1])) == ("partial", Decimal("0.48979"), 49, 25)
    assert (*subject(warehouse, WEEK[2])[:2], *broken(warehouse, WEEK[2])) == ("complete", 1, 24, 0)
    assert len(subject(warehouse)[3]["broken_samples"]) == 5
    before = everything(warehouse)
    assert [run(day) for day in WEEK[:3]] == [[], [], []], "also when its days are known"
    assert everything(warehouse) == before
    (logs / "access.log.api").unlink()
    assert run() == []
    assert subject(warehouse)[2] == told, "what is gone since is no reason to call the day complete"


def test_a_format_that_changes_within_a_log_leaves_the_days_before_it_alone(
    logs: Path, warehouse: Warehouse, tmp_path: Path
) -> None:
    """It changes at noon of the second day of a log that goes on for a week."""
    second = full_day(WEEK[1])
    text = [*full_day(), *second[:12], *combined(second[12:])]
    put(logs / "access.log", text, at(24, WEEK[1]))
    assert [run(day) for day in WEEK[:2]] == [[day] for day in WEEK[:2]]
    known = [(*subject(warehouse, day)[:2], *broken(warehouse, day)) for day in WEEK[:2]]
    assert known == [("complete", 1, 24, 0), ("partial", Decimal("0.25000"), 24, 12)], "half of the hours and lines"
    for day in WEEK[2:4]:
        text += [*combined(full_day(day)), "an odd line\n"]
        put(logs / "access.log", text, at(24, day))
        assert run(day) == [day], "and none before it"
        told = "the access logs hold no readable line of the day, but 25 broken ones"
        assert subject(warehouse, day)[:3] == ("missing", 0, told)
    before = everything(warehouse)
    assert [run(day) for day in WEEK[:4]] == [[]] * 4, "when the days of its lines are known"
    for entry in (tmp_path / "catalogue").iterdir():
        entry.unlink()
    assert [run(day) for day in WEEK[:4]] == [[]] * 4, "and when they are not"
    assert everything(warehouse) == before


def test_a_format_that_is_none_of_ours_is_told_by_the_times_in_it(logs: Path, warehouse: Warehouse) -> None:
    put(logs / "access.log", full_day(), at(24))
    other = ['{"time": "2026-10-03T01:00:00+00:00", "status": 200}\n', '{"at": "03/Oct/2026:23:30:00 -0100"}\n']
    put(logs / "access.log.json", other * 3, at(30))
    run()
    assert (subject(warehouse)[0], broken(warehouse)) == ("partial", (27, 3)), "the second ones are of the 4th in UTC"


def test_a_file_in_which_no_line_tells_a_time_changes_no_day(logs: Path, warehouse: Warehouse, tmp_path: Path) -> None:
    days = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]
    for day in days[1:]:
        put(logs / f"access.log-{day}", full_day(day), at(24, day))
    for name in ("access.log.report", "application.log", "error.log"):
        put(logs / name, ["page: 17 visits\n"] * 30, at(12))
    for day in days:
        assert run(day) == [day]
    assert subject(warehouse, days[0])[:3] == ("missing", 0, "the access logs hold no line of the day")
    assert [subject(warehouse, day)[:3] for day in days[1:]] == [("complete", 1, "")] * 2
    assert broken(warehouse) == (24, 0)
    assert sum(subject(warehouse)[3]["lines"].values()) == 24
    before = everything(warehouse)
    assert [run(day) for day in days] == [[], [], []], "when it is known that they tell nothing"
    for entry in (tmp_path / "catalogue").iterdir():
        entry.unlink()
    assert [run(day) for day in days] == [[], [], []], "and when it is not"
    assert everything(warehouse) == before


def test_a_day_of_broken_lines_only_tells_of_them_in_every_run(logs: Path, warehouse: Warehouse) -> None:
    put(logs / "access.log", combined(full_day()), at(24))
    assert run() == [DAY]
    assert run() == []
    told = "the access logs hold no readable line of the day, but 24 broken ones"
    assert subject(warehouse)[:3] == ("missing", 0, told)


def test_unreadable_lines_that_come_late_are_said(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day()))
    run()
    (logs / "access.log").write_text("".join(full_day() + combined(full_day())))
    assert run() == [DAY]
    assert (*subject(warehouse)[:2], *broken(warehouse)) == ("partial", Decimal("0.50000"), 48, 24)


# ------------------------------------------------------------------------------------------------- unknown parts
def test_a_damaged_archive_is_nothing_to_rely_on(logs: Path, warehouse: Warehouse) -> None:
    """Every hour has a line, and the end of the other server's log is lost: nobody knows how much that is."""
    (logs / "access.log").write_text("".join(full_day()))
    packed = zstandard.compress("".join(full_day(per_hour=900, size=9)).encode())
    (logs / "access.log.web2.zst").write_bytes(packed[: len(packed) * 2 // 3])
    run()
    told = "damaged, so that lines are missing: access.log.web2"
    assert subject(warehouse)[:3] == ("partial", Decimal("0.98000"), told)


# ------------------------------------------------------------------------------------------------- absent logs
def application(day: date, number: int = 4) -> list[str]:
    return [
        json_line(time=at(hour, day).isoformat(), level="ERROR", logger="app", message="m", path="/", exception="E")
        for hour in range(number)
    ]


def errors(day: date) -> list[str]:
    return [f"{day:%Y/%m/%d} 05:00:00 [error] 1#1: no memory\n"]


def write(logs: Path, day: date, *, application_lines: int = 4, with_errors: bool = True) -> None:
    """The three live logs as rotation leaves them after a day."""
    for name, lines in {
        "access.log": full_day(day),
        "application.log": application(day, application_lines),
        "error.log": errors(day) if with_errors else [],
    }.items():
        put(logs / name, lines, at(24, day))


def absent(warehouse: Warehouse, day: date = DAY) -> tuple[Any, ...]:
    """What a day is complete by, and the logs of which there was no file."""
    state, share, reason, detail = subject(warehouse, day)
    return state, share, reason, detail.get("absent_logs", [])


@pytest.mark.parametrize("kind", ["application", "error"])
def test_a_log_without_any_file_is_named_and_the_day_is_complete(logs: Path, warehouse: Warehouse, kind: str) -> None:
    write(logs, DAY)
    (logs / f"{kind}.log").unlink()
    assert run() == [DAY]
    assert absent(warehouse) == ("complete", 1, "", [kind])
    assert run() == []
    # Its file turns up at last.
    put(logs / f"{kind}.log-20261004", application(DAY) if kind == "application" else errors(DAY), at(24))
    assert run() == [DAY]
    assert absent(warehouse) == ("complete", 1, "", [])


@pytest.mark.parametrize("kind", ["application", "error"])
def test_a_log_of_which_nothing_can_be_read_does_not_tell_of_no_errors(
    logs: Path, warehouse: Warehouse, tmp_path: Path, kind: str
) -> None:
    """Its format is another one since midnight; the file of the day before lies there and can be read."""
    write(logs, DAY)
    for path in list(logs.iterdir()):
        path.rename(logs / f"{path.name}-20261003")
    write(logs, WEEK[1])
    put(logs / f"{kind}.log", ["2026-10-04 05:00:00,123 ERROR no memory\n"] * 30, at(24, WEEK[1]))
    assert [run(day) for day in WEEK[:2]] == [[day] for day in WEEK[:2]]
    assert [absent(warehouse, day) for day in WEEK[:2]] == [("complete", 1, "", []), ("complete", 1, "", [kind])]
    before = everything(warehouse)
    assert [run(day) for day in WEEK[:2]] == [[], []], "when it is known that nothing can be read"
    for entry in (tmp_path / "catalogue").iterdir():
        entry.unlink()
    assert [run(day) for day in WEEK[:2]] == [[], []], "and when it is not"
    assert everything(warehouse) == before
    write(logs, WEEK[1])
    assert run(WEEK[1]) == [WEEK[1]], "it can be read at last"
    assert absent(warehouse, WEEK[1]) == ("complete", 1, "", [])


@pytest.mark.parametrize("live_is_empty", [False, True])
def test_days_before_the_oldest_line_of_a_log_are_not_without_errors(
    logs: Path, warehouse: Warehouse, live_is_empty: bool
) -> None:
    """The access log reaches further back than the others, which begin with the second day."""
    put(logs / "access.log-20261003", full_day(), at(24))
    write(logs, WEEK[1])
    if live_is_empty:
        for name in ("application.log", "error.log"):
            (logs / name).rename(logs / f"{name}-20261004")
            put(logs / name, [], at(24, WEEK[1]))
    assert [run(day) for day in WEEK[:2]] == [[day] for day in WEEK[:2]]
    assert absent(warehouse) == ("complete", 1, "", ["application", "error"])
    assert absent(warehouse, WEEK[1]) == ("complete", 1, "", [])
    # A log of the first day turns up.
    put(logs / "error.log-20261003", ["2026/10/03 05:00:00 [info] 1#1: all is well\n"], at(24))
    run(DAY)
    assert absent(warehouse) == ("complete", 1, "", ["application"])


def test_a_log_that_was_rotated_and_not_made_again_is_none_that_is_absent(logs: Path, warehouse: Warehouse) -> None:
    """Rotation only renames it, and its writer makes it again at its next line, which may take days."""
    write(logs, DAY)
    assert run() == [DAY]
    for path in list(logs.iterdir()):
        path.rename(logs / f"{path.name}-20261003")
    put(logs / "access.log", full_day(WEEK[1]), at(24, WEEK[1]))
    assert run(WEEK[1]) == [WEEK[1]]
    assert absent(warehouse, WEEK[1]) == ("complete", 1, "", [])


def test_a_log_that_is_empty_is_none_that_is_absent(logs: Path, warehouse: Warehouse) -> None:
    write(logs, DAY, application_lines=0, with_errors=False)
    run()
    assert absent(warehouse) == ("complete", 1, "", [])


def test_a_log_whose_files_are_deleted_later_was_there(logs: Path, warehouse: Warehouse) -> None:
    write(logs, DAY, application_lines=0)
    run()
    (logs / "application.log").unlink()
    assert run() == []
    assert absent(warehouse) == ("complete", 1, "", [])


def test_figures_stay_when_hours_are_lost_whatever_other_logs_have_gained(logs: Path, warehouse: Warehouse) -> None:
    write(logs, DAY)
    assert run() == [DAY]
    write(logs, DAY, application_lines=23)
    (logs / "access.log").write_text("".join(full_day()[:12]))
    assert run() == []
    assert (*subject(warehouse)[:2], count(warehouse)) == ("complete", 1, 24)
