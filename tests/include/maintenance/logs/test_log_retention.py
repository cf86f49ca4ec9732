"""Old logs go by age, number and size, but only once their days are in the warehouse, and never on a legal hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.logs import log_compression, log_rotation
from include.maintenance.logs.log_closing import Closing
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform.log_files import RotatedLog
from include.settings import settings
from include.warehouse import legal_holds
from include.warehouse.findings import Finding
from tests.include.maintenance.logs.log_files_made import NOW, access, acts, known, names, old
from tests.recorded_findings import latest_findings


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return tmp_path / "platform_logs"


def test_only_what_the_warehouse_knows_is_deleted(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-20", "2026-09-22")
    known(warehouse, "2026-09-21", state="partial")
    known(warehouse, "2026-09-23", state="missing")
    warehouse.execute(
        "INSERT INTO ops.daily_subject (day, subject, state, completeness, content_hash)"
        " VALUES ('2026-09-24', 'uptime', 'complete', 1, '')"
    )
    old(logs / "access.log-20260920.gz", access("20/Sep/2026:03:00:00", "21/Sep/2026:02:59:59"), 13)
    old(logs / "access.log-20260921.gz", access("22/Sep/2026:23:59:59", "23/Sep/2026:00:00:00"), 12)
    old(
        logs / "error.log-20260922",
        "2026/09/22 10:00:00 [error] 1#1: x\n  more of it\n2026/09/24 00:00:00 [error] y\n",
        11,
    )
    old(logs / "application.log-20260925", '{"time": "2026-09-20T10:00:00Z", "level": "info"}\n', 8)
    old(logs / "access.log-20260926", "no time at all\n", 8)
    old(logs / "access.log-20260924", "", 8)
    old(logs / "access.log-20260927", access("20/Sep/2026:10:00:00"), 7)  # seven days old: kept
    log_rotation.rotate("r1", False, NOW)
    found = acts(warehouse)
    assert {resource: rest[:2] for (kind, resource), rest in found.items() if kind == "delete_logs"} == {
        "access.log-20260920.gz": ["proven", ""],
        "access.log-20260921.gz": ["nothing_to_do", "kept: day 2026-09-23 is not in the warehouse yet"],
        "error.log-20260922": ["nothing_to_do", "kept: day 2026-09-24 is not in the warehouse yet"],
        "application.log-20260925": ["proven", ""],
        "access.log-20260926": ["nothing_to_do", "kept: no line of it carries a time that can be read"],
        "access.log-20260924": ["proven", ""],
    }
    assert names(logs) == [
        "access.log-20260921.gz",
        "access.log-20260926.zst",
        "access.log-20260927.zst",
        "error.log-20260922.zst",
    ]


@pytest.mark.usefixtures("clock_ahead")
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clock_that_is_wrong_deletes_nothing(logs: Path, warehouse: psycopg.Connection, dry_run: bool) -> None:
    known(warehouse, "2026-09-20")
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00"), 13)
    with pytest.raises(ConfigurationError, match="set the clock that is wrong") as raised:
        log_rotation.rotate("r1", dry_run)
    assert path.exists()
    assert acts(warehouse)["rotate_logs", "all logs"][:2] == ["failed", str(raised.value)]


def test_a_damaged_old_file_is_a_failure(logs: Path, warehouse: psycopg.Connection) -> None:
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:03:00:00") * 100, 13)
    path.write_bytes(path.read_bytes()[:-12])
    known(warehouse, "2026-09-20")
    with pytest.raises(MaintenanceFailed, match="is damaged"):
        log_rotation.rotate("r1", False, NOW)
    assert path.exists()
    [found] = latest_findings("rotated_log_retention")
    assert (found.finding.resource, found.finding.outcome) == (path.name, Outcome.UNKNOWN)
    path.unlink()  # moved away
    log_rotation.rotate("r1", False, NOW)
    [found] = latest_findings("rotated_log_retention")
    assert found.finding.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("variable", "value", "limit", "left"),
    [
        ("KEEP_FILES", "2", "beyond the newest 2 files", ["access.log-20261003.gz", "access.log-20261003.1.gz"]),
        ("KEEP_BYTES", "1500", "beyond 1500 bytes", ["access.log-20261003.1.gz"]),
        ("KEEP_DAYS", "1", "older than 1 days", ["access.log-20261003.1.gz", "access.log-20261003.gz"]),
    ],
)
def test_limits_take_the_oldest_of_each_log(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch,
    variable: str, value: str, limit: str, left: list[str],
) -> None:  # fmt: skip
    environment.setenv(f"OPERATIONS__MAINTENANCE__LOGS__{variable}", value)
    settings.cache_clear()
    known(warehouse, "2026-10-01", "2026-10-02", "2026-10-03")
    for name in (
        "access.log-20261001.gz",
        "access.log-20261002.gz",
        "access.log-20261003.gz",
        "access.log-20261003.1.gz",
    ):
        path = old(logs / name, access(f"0{name[18]}/Oct/2026:10:00:00"), 1)
        path.write_bytes(path.read_bytes() + path.read_bytes() * (1000 // path.stat().st_size))
    old(logs / "error.log-20261003.gz", "2026/10/03 10:00:00 [error] 1#1: x\n", 1)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == sorted([*left, "error.log-20261003.gz"])
    gone = {resource: rest for (kind, resource), rest in acts(warehouse).items() if kind == "delete_logs"}
    assert {rest[0] for rest in gone.values()} == {"proven"}
    assert {rest[2]["limit"] for rest in gone.values()} == {limit}
    assert not {line.split()[1] for line in (logs / "SHA256SUMS").read_text().splitlines()} - {
        *left,
        "error.log-20261003.gz",
    }
    settings.cache_clear()


def test_a_legal_hold_keeps_the_logs_of_its_days(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-19", "2026-09-20", "2026-09-21")
    for day in (19, 20, 21):
        old(logs / f"access.log-202609{day}.gz", access(f"{day}/Sep/2026:10:00:00"), 13)
    old(logs / "error.log-20260920.gz", "2026/09/20 10:00:00 [error] 1#1: x\n", 13)
    conditions = {
        "source_table": "access_logs",
        "time_from": datetime(2026, 9, 20, 23, 59, tzinfo=UTC),
        "time_until": datetime(2026, 9, 21, tzinfo=UTC),
    }
    hold = legal_holds.place(conditions, "case 7", "counsel")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20260920.gz"]
    reason = f"kept: legal hold {hold.legal_hold_id} (case 7)"
    assert acts(warehouse)["delete_logs", "access.log-20260920.gz"][:2] == ["nothing_to_do", reason]
    legal_holds.release(hold.legal_hold_id, "counsel")
    everything = legal_holds.place({"source_table": "platform_logs"}, "case 8", "counsel")
    log_rotation.rotate("r2", False, NOW)
    assert names(logs) == ["access.log-20260920.gz"]
    legal_holds.release(everything.legal_hold_id, "counsel")
    log_rotation.rotate("r3", False, NOW)
    assert names(logs) == []


def test_a_file_that_is_written_to_is_never_deleted(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-20")
    path = old(logs / "access.log-20260920", access("20/Sep/2026:10:00:00"), 13)
    with path.open("a"), pytest.raises(MaintenanceFailed, match="still written to"):
        log_rotation.rotate("r1", False, NOW)
    assert path.exists()


def test_a_hold_that_is_placed_while_the_checksums_are_read_counts(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    check = log_compression.check

    def meanwhile(*arguments: Any) -> dict[str, Any]:
        legal_holds.place({"source_table": "access_logs"}, "case 9", "counsel")
        return check(*arguments)

    environment.setattr(log_compression, "check", meanwhile)
    known(warehouse, "2026-09-20")
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00"), 13)
    log_rotation.rotate("r1", False, NOW)
    assert path.exists()
    assert acts(warehouse)["delete_logs", path.name][0] == "nothing_to_do"


def test_a_hold_that_is_placed_while_a_file_is_read_keeps_it_and_those_after_it(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    reason_to_keep, placed = Closing.reason_to_keep, []

    def meanwhile(closing: Closing, file: RotatedLog) -> str:
        if file.path.name == "access.log-20260920.gz":
            placed.append(legal_holds.place({"source_table": "access_logs"}, "case 9", "counsel").legal_hold_id)
        return reason_to_keep(closing, file)

    environment.setattr(Closing, "reason_to_keep", meanwhile)
    known(warehouse, "2026-09-19", "2026-09-20", "2026-09-21")
    for day in (19, 20, 21):
        old(logs / f"access.log-202609{day}.gz", access(f"{day}/Sep/2026:10:00:00"), 13)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20260920.gz", "access.log-20260921.gz"]
    kept = ["nothing_to_do", f"kept: legal hold {placed[0]} (case 9)"]
    assert [acts(warehouse)["delete_logs", name][:2] for name in names(logs)] == [kept, kept]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("access.log", access("20/Sep/2026:10:00:00").replace('"-" "-"', '"-" "x [01/Sep/2026:00:00:00 +0000]"')),
        ("access.log", access("20/Sep/2026:10:00:00").replace("GET /", "GET /[01/Sep/2026:00:00:00 +0000]")),
        ("access.log", access("20/Sep/2026:10:00:00") + access("01/Sep/2026:10:00:00")[:70] + "\n"),
        ("access.log", access("20/Sep/2026:10:00:00") + access("01/Sep/2026:10:00:00")[:-1]),
        ("application.log", '{"time": "2026-09-20T10:00:00Z", "order": {"time": "2026-09-01T00:00:00Z"}}\n'),
        ("error.log", "2026/09/20 10:00:00 [error] 1#1: x\n at 2026/09/01 10:00:00 [error]\n"),
    ],
)
def test_what_stands_elsewhere_in_a_line_keeps_no_log(
    logs: Path, warehouse: psycopg.Connection, name: str, text: str
) -> None:
    """One request with a time in its User-Agent would else keep the log for ever."""
    known(warehouse, "2026-09-20")
    old(logs / f"{name}-20260920.gz", text, 13)
    log_rotation.rotate("r1", False, NOW)
    state, reason, plan, _ = acts(warehouse)["delete_logs", f"{name}-20260920.gz"]
    assert (state, reason, plan["days"]) == ("proven", "", ["2026-09-20"])
    assert names(logs) == []


def test_a_day_that_is_still_to_come_is_not_waited_for(logs: Path, warehouse: psycopg.Connection) -> None:
    """A clock was wrong. Tomorrow may have begun by another clock than ours."""
    known(warehouse, "2026-09-20")
    old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00", "01/Jan/2031:00:00:00"), 13)
    old(logs / "access.log-20260921.gz", access("20/Sep/2026:10:00:00", "06/Oct/2026:00:00:00"), 12)
    old(logs / "access.log-20260922.gz", access("20/Sep/2026:10:00:00", "05/Oct/2026:23:59:59"), 11)
    log_rotation.rotate("r1", False, NOW)
    found = {resource: rest[:2] for (kind, resource), rest in acts(warehouse).items() if kind == "delete_logs"}
    assert found == {
        "access.log-20260920.gz": ["proven", ""],
        "access.log-20260921.gz": ["proven", ""],
        "access.log-20260922.gz": ["nothing_to_do", "kept: day 2026-10-05 is not in the warehouse yet"],
    }
    assert acts(warehouse)["delete_logs", "access.log-20260920.gz"][2]["days"] == ["2026-09-20", "2031-01-01"]


# ------------------------------------------------------------------------------------------------ what stays
NO_TIME = "no line of it carries a time that can be read"


def told() -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings("rotated_log_retention")}


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_log_that_stays_for_want_of_an_old_day_is_a_warning(
    logs: Path, warehouse: psycopg.Connection, dry_run: bool
) -> None:
    known(warehouse, "2026-09-20")
    old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00", "01/Jan/1970:00:00:10"), 13)
    old(logs / "error.log-20260920.zst", "2026/09/20 10:00:00 [error] 1#1: x\n", 13)
    for _ in range(2):  # a later attempt of the run says the same
        log_rotation.rotate("r1", dry_run, NOW)
        finding = told()["access.log-20260920.gz"]
        assert (len(told()), finding.outcome) == (1, Outcome.WARNING)
        assert finding.summary == (
            "access.log-20260920.gz is older than 7 days and kept: day 1970-01-01 is not in the warehouse yet"
        )
        assert finding.evidence["days_missing"] == 1
        assert "--from-date 1970-01-01 --to-date 1970-01-01" in finding.remedy
    known(warehouse, "1970-01-01")
    log_rotation.rotate("r2", False, NOW)
    assert [one.outcome for one in told().values()] == [Outcome.OK]
    assert names(logs) == []


def test_a_log_that_waits_for_last_night_or_is_held_is_no_warning(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__KEEP_FILES", "1")
    settings.cache_clear()
    legal_holds.place({"source_table": "error_logs"}, "case 7", "counsel")
    for name in ("access.log-20261003", "access.log-20261003.1"):
        old(logs / name, access("03/Oct/2026:10:00:00"), 0.9)
    old(logs / "error.log-20260920.zst", "2026/09/20 10:00:00 [error] 1#1: x\n", 13)
    log_rotation.rotate("r1", False, NOW)
    states = {resource: rest[0] for (kind, resource), rest in acts(warehouse).items() if kind == "delete_logs"}
    assert states == {"access.log-20261003": "nothing_to_do", "error.log-20260920.zst": "nothing_to_do"}
    assert [one.outcome for one in told().values()] == [Outcome.OK]


def test_a_log_of_which_nothing_is_counted_stays_and_is_a_warning(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-20")
    for name, text, why in (
        ("access.log-20260920.gz", access("20/Sep/2026:10:00:00").replace(" 0.001", ""), NO_TIME),
        ("application.log-20260920.gz", "INFO 20.09.2026 10:00 started\n", NO_TIME),
        ("access.log-20260919.gz", access("20/Sep/2031:10:00:00"), "its lines are all of days that are still to come"),
    ):
        old(logs / name, text, 13)
        log_rotation.rotate("r1", False, NOW)
        assert (logs / name).exists()
        assert told()[name].summary == f"{name} is older than 7 days and kept: {why}"
        assert told()[name].outcome is Outcome.WARNING


def test_a_hold_keeps_a_log_for_its_broken_lines_too(logs: Path, warehouse: psycopg.Connection) -> None:
    """The format was changed at midnight: nothing of the second day was counted, but its lines are there."""
    known(warehouse, "2026-09-20")
    broken = access("21/Sep/2026:10:00:00").replace(" 0.001", "")
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00") + broken, 12)
    conditions = {"source_table": "access_logs", "time_from": datetime(2026, 9, 21, tzinfo=UTC)}
    hold = legal_holds.place(conditions, "case 7", "counsel")
    log_rotation.rotate("r1", False, NOW)
    assert path.exists()
    legal_holds.release(hold.legal_hold_id, "counsel")
    log_rotation.rotate("r2", False, NOW)
    assert not path.exists()


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_hold_is_judged_whatever_times_clients_send(logs: Path, warehouse: psycopg.Connection, year: str) -> None:
    known(warehouse, "2026-09-20")
    sent = access("20/Sep/2026:10:00:00").replace('"-" ', f'"-" "x [31/Dec/{year}:12:00:00 +0000] ', 1)
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00") + sent, 12)
    for conditions in (
        {"time_from": datetime(2026, 9, 21, tzinfo=UTC)},
        {"time_until": datetime(2026, 9, 20, tzinfo=UTC)},
    ):
        legal_holds.place({"source_table": "access_logs"} | conditions, "case 7", "counsel")
    log_rotation.rotate("r1", False, NOW)
    assert path.exists(), "the hold is on all days from then, or until then"
