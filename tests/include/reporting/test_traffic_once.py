"""Every line counts once, on its own day, whatever happens to the files; and what a bad folder leads to."""

import gzip
import json
import os
import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include.outcome import ConfigurationError, SourceUnavailable
from include.platform.logs import LogFile, LogFolder
from include.reporting import traffic, traffic_day
from include.sections import Traffic
from include.window import Window, week_window
from tests.include.reporting.traffic_lines import (
    DAY,
    Warehouse,
    at,
    count,
    everything,
    full_day,
    line,
    log_folder,  # noqa: F401 - the fixture logs
    random_lines,
    run,
    subject,
)
from tests.include.reporting.traffic_recount import recount


# ------------------------------------------------------------------------------------------------ exactly once
def test_rotation_and_compression_do_not_change_the_figures(logs: Path, warehouse: Warehouse) -> None:
    text = "".join(full_day(per_hour=20))
    (logs / "access.log").write_text(text)
    assert run() == [DAY]
    before = everything(warehouse)
    (logs / "access.log").rename(logs / "access.log-20261004")
    (logs / "access.log").write_text(line(at(30)))
    assert run() == []
    (logs / "access.log-20261004.gz").write_bytes(gzip.compress((logs / "access.log-20261004").read_bytes()))
    (logs / "access.log-20261004").unlink()
    assert run() == []
    assert everything(warehouse) == before
    assert subject(warehouse)[:3] == ("complete", 1, "")


def test_same_content_present_twice_is_read_once_and_said(logs: Path, warehouse: Warehouse) -> None:
    text = "".join(full_day(per_hour=20))
    (logs / "access.log-20261003").write_text(text)
    (logs / "access.log-20261003.gz").write_bytes(gzip.compress(text.encode()))
    run()
    assert count(warehouse) == 480
    assert subject(warehouse)[3]["read_once"] == ["access.log-20261003.gz"]


def test_half_compressed_copy_is_no_second_log(logs: Path, warehouse: Warehouse) -> None:
    text = "".join(random_lines(DAY, "UTC", 3000, seed=2))
    (logs / "access.log-20261003").write_text(text)
    packed = gzip.compress(text.encode())
    (logs / "access.log-20261003.gz").write_bytes(packed[: len(packed) // 2])
    (logs / "access.log.1").write_text(text[: text.index("\n", len(text) // 3) + 1])  # being copied for truncation
    run()
    assert count(warehouse) == recount([logs / "access.log-20261003"], DAY, "UTC")["daily_traffic"][5]
    assert subject(warehouse)[3]["read_once"] == ["access.log-20261003.gz", "access.log.1"]
    assert subject(warehouse)[3]["damaged_files"] == []


def test_different_logs_that_begin_with_the_same_line_are_both_read(logs: Path, warehouse: Warehouse) -> None:
    first = line(at(0))
    (logs / "access.log.web1").write_text(first + "".join(full_day(per_hour=2)))
    (logs / "access.log.web2").write_text(first + "".join(full_day(per_hour=3, size=9)))
    run()
    assert count(warehouse) == 1 + 48 + 1 + 72
    assert subject(warehouse)[3]["read_once"] == []


def test_hard_link_is_read_once(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day()))
    (logs / "access.log.1").hardlink_to(logs / "access.log")
    run()
    assert count(warehouse) == 24


def test_last_line_without_its_end_is_left_for_later(logs: Path, warehouse: Warehouse) -> None:
    text = "".join(full_day())
    (logs / "access.log").write_text(text + line(at(23.9), seconds="0.123")[:-3])  # "0.1": it would be readable
    run()
    assert (count(warehouse), count(warehouse, column="lines_broken")) == (24, 0)
    (logs / "access.log").write_text(text + line(at(23.9), seconds="0.123"))
    assert run() == [DAY]
    assert count(warehouse) == 25
    assert count(warehouse, column="response_seconds_sum") == Decimal("3.003")


def test_late_line_in_a_later_file_changes_its_own_day(logs: Path, warehouse: Warehouse) -> None:
    day2, day5 = date(2026, 10, 4), date(2026, 10, 7)
    (logs / "access.log-1").write_text("".join(full_day()))
    (logs / "access.log-2").write_text("".join(full_day(day2)))
    assert run() == [DAY]
    assert run(day2) == [day2]
    # Four days later a line of the first day turns up, in the midst of another day's log.
    later = full_day(day5)
    later.insert(12, line(at(7), status=503))
    (logs / "access.log-5").write_text("".join(later))
    assert run(day5) == [DAY, day5]
    assert (count(warehouse), count(warehouse, column="errors"), count(warehouse, day5)) == (25, 1, 24)
    before = everything(warehouse)
    assert run(day5) == []
    assert run() == []
    assert everything(warehouse) == before


def test_late_lines_do_not_depend_on_the_catalogue(logs: Path, warehouse: Warehouse, tmp_path: Path) -> None:
    day5 = date(2026, 10, 7)
    (logs / "access.log-1").write_text("".join(full_day()))
    run()
    (logs / "access.log-5").write_text("".join([*full_day(day5), line(at(7))]))
    assert run(day5) == [DAY, day5]
    for entry in (tmp_path / "catalogue").iterdir():
        entry.unlink()
    assert run() == []
    assert count(warehouse) == 25


def test_late_line_met_before_its_own_day_is_computed(logs: Path, warehouse: Warehouse, tmp_path: Path) -> None:
    day5 = date(2026, 10, 7)
    (logs / "access.log-1").write_text("".join(full_day()))
    (logs / "access.log-5").write_text("".join([*full_day(day5), line(at(7))]))
    assert run(day5) == [day5]
    for entry in (tmp_path / "catalogue").iterdir():
        entry.unlink()
    assert run() == [DAY]
    assert count(warehouse) == 25


def test_late_line_met_while_its_own_day_is_computed(
    logs: Path, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day5 = date(2026, 10, 7)
    (logs / "access.log-1").write_text("".join(full_day()))
    (logs / "access.log-5").write_text("".join([*full_day(day5), line(at(7))]))
    original = traffic_day.aggregate
    meanwhile = [day5]

    def run_another(folder: LogFolder, window: Window, files: list[LogFile], configuration: Traffic) -> Any:
        found = original(folder, window, files, configuration)
        if meanwhile:
            assert run(meanwhile.pop()) == [day5]
        return found

    monkeypatch.setattr(traffic_day, "aggregate", run_another)
    assert run() == [DAY]
    assert count(warehouse) == 25


def test_log_of_an_earlier_day_that_arrives_late(logs: Path, warehouse: Warehouse) -> None:
    day5 = date(2026, 10, 7)
    (logs / "access.log.web1-1").write_text("".join(full_day()))
    assert run() == [DAY]
    (logs / "access.log.web2-1").write_text("".join(full_day(per_hour=2)))  # this server was cut off
    (logs / "access.log.web1-5").write_text("".join(full_day(day5)))
    assert run(day5) == [DAY, day5]
    assert count(warehouse) == 72
    assert run(day5) == []


def test_days_not_computed_yet_are_not_computed_by_others(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join([*full_day(), *full_day(date(2026, 10, 4))]))
    assert run(date(2026, 10, 4)) == [date(2026, 10, 4)]
    assert subject(warehouse) is None


def test_days_in_any_order_give_the_same_rows(logs: Path, warehouse: Warehouse) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    for n, day in enumerate(days):
        late = [line(at(23.99, days[n - 1]))] * 3 if n else []
        (logs / f"access.log-{n}").write_text("".join([*late, *full_day(day)]))
    for day in days:
        run(day)
    forward = everything(warehouse)
    warehouse.execute(
        "TRUNCATE ops.daily_subject, ops.daily_traffic, ops.hourly_traffic, ops.hourly_latency, ops.daily_error"
    )
    for day in reversed(days):
        run(day)
    assert everything(warehouse) == forward
    assert [count(warehouse, day) for day in days] == [27, 27, 27, 24]


def test_known_figures_stay_when_their_logs_are_gone(
    logs: Path, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    (logs / "access.log-1").write_text("".join(full_day(per_hour=2)))
    run()
    before = everything(warehouse)
    (logs / "access.log-1").write_text("".join(full_day(per_hour=1)))
    assert run() == []
    assert "only 24 of the 48 lines" in caplog.text
    (logs / "access.log-1").unlink()
    assert run() == []
    assert everything(warehouse) == before
    writes = warehouse.execute("SELECT changed, content_hash FROM ops.metric_write ORDER BY metric_write_id").fetchall()
    assert [changed for changed, _ in writes] == [True, False, False], "a run that leaves a day as it is says so"
    assert len({digest for _, digest in writes}) == 1


def test_lines_that_come_when_their_days_logs_are_deleted_are_told(logs: Path, warehouse: Warehouse) -> None:
    days = [date(2026, 10, 12), date(2026, 10, 13)]
    (logs / "access.log-1").write_text("".join(full_day(per_hour=2)))
    run()
    figures = everything(warehouse)[1:]
    (logs / "access.log-1").unlink()
    (logs / "access.log-12").write_text("".join([*full_day(days[0]), line(at(7)), line(at(8))]))
    assert run(days[0]) == [DAY, days[0]], "its report is written again"
    told = "2 lines came after the day's logs were deleted and cannot be counted"
    assert subject(warehouse)[:3] == ("partial", Decimal("0.96000"), told), "48 of 50"
    assert [[row for row in table if "2026-10-03" in row[0]] for table in everything(warehouse)[1:]] == figures
    after = everything(warehouse)
    assert run(days[0]) == run() == []
    assert everything(warehouse) == after
    (logs / "access.log-13").write_text("".join([*full_day(days[1]), line(at(9))]))
    (logs / "access.log-12").unlink()
    assert run(days[1]) == [DAY, days[1]]
    assert subject(warehouse)[:3] == ("partial", Decimal("0.94117"), told.replace("2", "3", 1)), "48 of 51"
    for name, content in (("1", full_day(per_hour=2)), ("12", [*full_day(days[0]), line(at(7)), line(at(8))])):
        (logs / f"access.log-{name}").write_text("".join(content))
    assert run() == [DAY], "all of them are there again"
    assert (*subject(warehouse)[:3], count(warehouse)) == ("complete", Decimal(1), "", 51)


def test_only_files_that_may_hold_the_day_are_read(
    logs: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    original = traffic_day.aggregate

    def note(folder: LogFolder, window: Window, files: list[LogFile], configuration: Traffic) -> Any:
        read.append(sorted(file.name for file in files))
        return original(folder, window, files, configuration)

    monkeypatch.setattr(traffic_day, "aggregate", note)
    for n in range(12):
        day = DAY + timedelta(days=n)
        with gzip.open(logs / f"access.log-{day:%Y%m%d}.gz", "wt") as file:
            file.write("".join(full_day(day)))
    for n in range(12):
        run(DAY + timedelta(days=n))
    # In order, each day reads its own file and the one after it; the one before is known from the last run.
    assert [len(files) for files in read] == [2] * 11 + [1]
    read.clear()
    run(DAY + timedelta(days=5))
    assert read == [["access.log-20261008.gz"]]


@pytest.mark.parametrize(
    "stray",
    [
        line(datetime(2020, 1, 1, tzinfo=UTC)),
        line(at(3), request="GET /?at=[01/Jan/2020:00:00:00 +0000] HTTP/1.1"),
        line(at(3), agent="x [01/Jan/2020:00:00:00 +0000]"),
    ],
)
def test_an_old_time_at_the_beginning_of_a_rotated_log_loses_no_line(
    logs: Path, warehouse: Warehouse, stray: str
) -> None:
    """Rotated at three o'clock: the first hours of a day stand in the file of the day before."""
    by_file = [[line(at(3 + n + 24 * day)) for n in range(24)] for day in (-1, 0, 1)]
    by_file[1].insert(0, stray)
    for name, lines, ended in zip(
        ("access.log-1.gz", "access.log-2.gz", "access.log"), by_file, (3, 27, 51), strict=True
    ):
        text = "".join(lines).encode()
        (logs / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        os.utime(logs / name, (at(ended).timestamp(), at(ended).timestamp()))
    assert run(DAY + timedelta(days=1)) == [DAY + timedelta(days=1)]
    assert subject(warehouse, DAY + timedelta(days=1))[:3] == ("complete", 1, "")


# ----------------------------------------------------------------------------------------------------- bad input
def test_file_names_are_data(logs: Path, warehouse: Warehouse) -> None:
    name = "access.log'); DROP TABLE x; --[a]*?\"{}"
    (logs / name).write_text("".join(full_day()))
    past = (datetime.now(UTC) - timedelta(hours=1)).timestamp()

    os.utime(logs / name, (datetime(2026, 10, 4, tzinfo=UTC).timestamp(), past if past > 0 else 0))
    run()
    assert count(warehouse) == 24


def test_missing_folder_is_named(logs: Path, warehouse: Warehouse) -> None:
    shutil.rmtree(logs)
    with pytest.raises(ConfigurationError, match="platform_logs does not exist; correct its path"):
        run()


def test_only_days_are_computed(logs: Path) -> None:
    with pytest.raises(ValueError, match="by day"):
        traffic.compute(week_window(DAY, "UTC"), "test")


def test_warehouse_away_leaves_nothing_half_written(
    logs: Path, warehouse: Warehouse, environment: pytest.MonkeyPatch
) -> None:
    (logs / "access.log").write_text("".join(full_day()))

    good = os.environ["AIRFLOW_CONN_WAREHOUSE"]
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://warehouse_writer:x@127.0.0.1:1/nowhere")
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        run()
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", good)
    assert run() == [DAY]


def test_logs_in_object_storage(logs: Path, warehouse: Warehouse, environment: pytest.MonkeyPatch) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.makedirs("/logs", exist_ok=True)
    try:
        memory.pipe("/logs/access.log-1.gz", gzip.compress("".join(full_day()).encode()))
        memory.pipe("/logs/access.log", "".join(full_day(date(2026, 10, 4))).encode())
        memory.pipe("/logs/else.txt", b"x")
        environment.setenv(
            "AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs", "extra": {"url": "memory://logs"}})
        )
        assert run() == [DAY]
        assert count(warehouse) == 24
    finally:
        memory.rm("/logs", recursive=True)


def test_a_rotation_in_the_midst_of_reading_is_read_again(
    logs: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    (logs / "access.log").write_text("".join(full_day(per_hour=3)))
    original = traffic_day.aggregate
    calls = []

    def rotate_first(folder: LogFolder, window: Window, files: list[LogFile], configuration: Traffic) -> Any:
        calls.append(1)
        if len(calls) == 1:
            (logs / "access.log").rename(logs / "access.log.1")
            (logs / "access.log").write_text(line(at(30)))
        return original(folder, window, files, configuration)

    monkeypatch.setattr(traffic_day, "aggregate", rotate_first)
    run()
    assert len(calls) == 2
    assert count(warehouse) == 72


def test_timezone_names(logs: Path, warehouse: Warehouse) -> None:
    assert ZoneInfo("Australia/Lord_Howe")  # its clock change is half an hour: 24.5 hours
    day = date(2026, 4, 5)
    (logs / "access.log").write_text(
        "".join(full_day(day, "Australia/Lord_Howe", per_hour=2)) + line(at(24.2, day, "Australia/Lord_Howe"))
    )
    run(day, "Australia/Lord_Howe")
    assert subject(warehouse, day)[:2] == ("complete", 1)
    assert count(warehouse, day) == 49
