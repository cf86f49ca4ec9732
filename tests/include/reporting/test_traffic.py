"""The day's figures equal a recount by hand; days, broken lines, the error summary."""

import gzip
import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import psycopg
import pytest
import zstandard

from include.platform.probes import USER_AGENT
from include.reporting.figures import DEFINITIONS
from include.settings import settings
from tests.conftest import Platform
from tests.include.reporting.traffic_lines import (
    DAY,
    Warehouse,
    at,
    count,
    full_day,
    line,
    log_folder,  # noqa: F401 - the fixture logs
    random_lines,
    rows,
    run,
    subject,
)
from tests.include.reporting.traffic_recount import json_line, recount


# ------------------------------------------------------------------------------------------------- brute force
@pytest.mark.parametrize(
    ("day", "zone", "largest"),
    [
        (DAY, "UTC", 200),
        (DAY, "Asia/Kolkata", 12),
        (date(2026, 10, 25), "Europe/Berlin", 200),  # 25 hours
        (date(2026, 3, 29), "Europe/Berlin", 200),  # 23 hours
    ],
)
def test_figures_equal_a_recount_by_hand_to_the_last_digit(
    logs: Path, warehouse: Warehouse, environment: pytest.MonkeyPatch, day: date, zone: str, largest: int
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__LARGEST_NUMBER_OF_ENDPOINTS", str(largest))
    settings.cache_clear()
    lines = random_lines(day, zone, 3000, seed=11)
    plain, packed, live = lines[:1000], lines[1000:2000], lines[2000:]
    (logs / "access.log-20200101").write_text("".join(plain))  # the date in a name means nothing
    with gzip.open(logs / "access.log.7.gz", "wt") as file:
        file.write("".join(packed[:500]))
    (logs / "access.log-x.zst").write_bytes(zstandard.compress("".join(packed[500:]).encode()))
    (logs / "access.log").write_text("".join(live) + live[0][:40])
    expected = recount(sorted(logs.iterdir()), day, zone, largest=largest)
    assert run(day, zone) == [day]
    daily = rows(
        warehouse, "daily_traffic", day,
        "requests, errors, client_errors, response_seconds_sum, bytes_sent, lines_read, lines_broken, lines_excluded",
    )  # fmt: skip
    assert daily == [expected["daily_traffic"]]
    for table in ("hourly_traffic", "hourly_latency", "daily_error"):
        assert {row[1:] for row in rows(warehouse, table, day)} == expected[table], table
    ((p95, p99),) = rows(warehouse, "daily_traffic", day, "response_p95_seconds, response_p99_seconds")
    exact = np.array(expected["seconds"], dtype=float)
    assert float(p95) == pytest.approx(np.quantile(exact, 0.95, method="lower"), rel=0.0101)
    assert float(p99) == pytest.approx(np.quantile(exact, 0.99, method="lower"), rel=0.0101)


_SAMPLED = 256 << 10  # bytes of a log's beginning in which usual requests are looked for
_IDENTIFIERS = (
    "5", "777", "123456789", "0xAb", "0X1", "0x", "deadbeef", "deadbee", "DEADBEEF01", "12ab", "12345678x", "5a", "me",
    "", "+5", "5.0", "1e3", "5 ", "é", "0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b-d9cb-469f-a165-70867728950",
    "5/6", "5?x=1", "kJsd_fKQwZtopSecretToken9A", "how-to-release-an-escrow-payment", "abcdefghijklmnopqrs9",
    "abcdefghijklmnopqr9", "eyJhbGci.eyJzdWIi.SflKxwRJ", "eyJhbGci.eyJzdWIi.SflKxwR", "index-BKx93hdj2kQsabcdefgh.js",
)  # fmt: skip


@pytest.mark.parametrize(
    "before", ["GET /users/", "POST /", "GET /v1/7/", "GET /orders/", "GET /a b/", "get /x/", "G ?/"]
)
@pytest.mark.parametrize(
    "afters", [(" HTTP/1.1", "/profile HTTP/1.1", "?"), ("?next=/5 HTTP/1.1", "/7/x HTTP/1.1", "")]
)
def test_requests_like_many_others_are_read_as_if_they_were_alone(
    logs: Path, warehouse: Warehouse, environment: pytest.MonkeyPatch, before: str, afters: tuple[str, ...]
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__EXCLUDED_PATHS", '["/orders/777", "/health"]')
    settings.cache_clear()
    usual = [f"{before}{number}{after}" for number in range(70, 170) for after in afters]
    usual += [f"{before}list?page={number} HTTP/1.1" for number in range(100)]
    others = [f"{before}{identifier}{after}" for identifier in _IDENTIFIERS for after in afters]
    others += [f"{before}list{rest}" for rest in ("?", " ?", "/5?page=1", "s?page=1", " HTTP/1.1", "")]
    begin = "".join(line(at(1), request) for request in usual) + line(at(1), usual[0], agent=USER_AGENT)
    begin *= 1 + _SAMPLED // len(begin)  # what comes after this is looked at for the first time
    (logs / "access.log").write_text(begin + "".join(line(at(1), request, 404) for request in others))
    expected = recount([logs / "access.log"], DAY, "UTC", excluded=("/orders/777", "/health"))
    run()
    for table in ("hourly_traffic", "hourly_latency", "daily_error"):
        assert {row[1:] for row in rows(warehouse, table)} == expected[table], table
    assert rows(warehouse, "daily_traffic", DAY, "requests, lines_excluded") == [
        (expected["daily_traffic"][0], expected["daily_traffic"][-1])
    ]


def test_days_of_the_demo_platform_equal_a_recount_by_hand(platform: Platform) -> None:
    access_logs = sorted(platform.logs.glob("access.log*"))
    days = platform.days[:3]
    for day in days:
        assert run(day) == [day]
    with psycopg.connect(os.environ["AIRFLOW_CONN_WAREHOUSE_READER"]) as reader:
        for day in days:
            expected = recount(access_logs, day, "UTC")
            assert rows(
                reader, "daily_traffic", day,
                "requests, errors, client_errors, response_seconds_sum, bytes_sent, lines_read, lines_broken,"
                " lines_excluded",
            ) == [expected["daily_traffic"]]  # fmt: skip
            for table in ("hourly_traffic", "hourly_latency"):
                assert {row[1:] for row in rows(reader, table, day)} == expected[table], table
            errors = {row[1:] for row in rows(reader, "daily_error", day) if row[1] == "access"}
            assert errors == expected["daily_error"]
            assert subject(reader, day)[0] == "complete"


def test_probes_of_the_watch_are_no_traffic(logs: Path, warehouse: Warehouse) -> None:
    probes = "".join(line(at(hour), status=503, agent=USER_AGENT) for hour in range(24))
    (logs / "access.log").write_text(probes + "".join(full_day()))
    run()
    assert rows(warehouse, "daily_traffic", DAY, "requests, errors, lines_read, lines_excluded") == [(24, 0, 48, 24)]
    assert subject(warehouse)[0] == "complete"


def test_sum_of_the_histogram_is_the_number_of_requests(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day(per_hour=5, seconds="0.000")))
    run()
    assert sum(row[0] for row in rows(warehouse, "hourly_latency", columns="requests")) == 120
    assert {row[0] for row in rows(warehouse, "hourly_latency", columns="bucket")} == {-32768}
    assert count(warehouse, column="response_p95_seconds") == 0


def test_upgraded_connections_have_no_response_time(logs: Path, warehouse: Warehouse) -> None:
    """nginx writes their line when they end, with all the time that they were open."""
    chats = [line(at(hour, DAY), "GET /ws HTTP/1.1", 101, 9000, f"{3000 + hour}.5") for hour in range(3)]
    chats.append(line(at(3), "GET /ws HTTP/1.1", 101, 9000, "0.120"))  # a time that usual responses take as well
    failed = line(at(0), "GET /ws HTTP/1.1", 502, 100, "2.000")
    (logs / "access.log").write_text("".join([*full_day(seconds="0.500"), *chats, failed]))
    run()
    columns = "requests, upgrades, errors, response_seconds_sum, response_average_seconds, bytes_sent"
    # 24 answers of half a second and the failed one of two: 14 seconds in 25 requests that have a time.
    assert rows(warehouse, "daily_traffic", columns=columns) == [
        (29, 4, 1, 14, Decimal("0.560000"), 24 * 512 + 4 * 9000 + 100)
    ]
    p95, p99 = rows(warehouse, "daily_traffic", columns="response_p95_seconds, response_p99_seconds")[0]
    assert float(p95) == float(p99) == pytest.approx(0.5, rel=0.0101)
    chat = "hour_start, requests, response_seconds_sum, bytes_sent"
    found = [row for row in rows(warehouse, "hourly_traffic", columns=f"endpoint, {chat}") if row[0] == "/ws"]
    assert sorted(found) == [
        ("/ws", at(0), 2, 2, 9100), *(("/ws", at(hour), 1, 0, 9000) for hour in range(1, 4))
    ]  # fmt: skip
    timed = rows(warehouse, "hourly_latency", columns="endpoint, requests")
    assert sum(requests for _, requests in timed) == 25
    assert [requests for endpoint, requests in timed if endpoint == "/ws"] == [1]


def test_a_day_of_upgraded_connections_alone_has_no_response_time(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day(status=101, seconds="60.000")))
    run()
    columns = "requests, upgrades, response_seconds_sum, response_average_seconds, response_p95_seconds"
    assert rows(warehouse, "daily_traffic", columns=columns) == [(24, 24, 0, None, None)]
    assert DEFINITIONS["response_p95_seconds"].undefined == "no requests with a response time were served"


# -------------------------------------------------------------------------------------- days and completeness
def test_day_without_a_line_is_missing_and_has_no_figures(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day(date(2026, 10, 5))))
    (logs / "application.log").write_text(
        json_line(time="2026-10-03T12:00:00+00:00", level="ERROR", logger="app", message="x", path="/", exception="E")
    )
    assert run() == [DAY]
    state, completeness, reason, _ = subject(warehouse)
    assert (state, completeness, reason) == ("missing", 0, "the access logs hold no line of the day")
    for table in ("daily_traffic", "hourly_traffic", "hourly_latency", "daily_error"):
        assert rows(warehouse, table) == []


def test_empty_folder_is_a_missing_day(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("")
    run()
    assert subject(warehouse)[0] == "missing"


def test_missing_hours_are_named(logs: Path, warehouse: Warehouse) -> None:
    lines = full_day()
    del lines[20], lines[3:5], lines[0]
    (logs / "access.log").write_text("".join(lines))
    run()
    assert subject(warehouse)[:3] == (
        "partial", Decimal("0.83333"), "no line from 00:00 to 01:00, 03:00 to 05:00, 20:00 to 21:00",
    )  # fmt: skip


def test_last_hour_missing(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day()[:-2]))
    run()
    assert subject(warehouse)[2] == "no line from 22:00 to 24:00"


def test_excluded_lines_are_no_traffic_but_show_that_the_platform_logged(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day(request="GET /health HTTP/1.1", status=500)))
    run()
    assert rows(warehouse, "daily_traffic", columns="requests, errors, error_rate, lines_read, lines_excluded") == [
        (0, 0, None, 24, 24)
    ]
    assert subject(warehouse)[:2] == ("complete", 1)
    assert rows(warehouse, "hourly_traffic") == rows(warehouse, "daily_error") == []


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_days_of_a_clock_change(logs: Path, warehouse: Warehouse, day: date, hours: int) -> None:
    (logs / "access.log").write_text("".join(full_day(day, "Europe/Berlin")))
    assert run(day, "Europe/Berlin") == [day]
    assert subject(warehouse, day)[:2] == ("complete", 1)
    starts = {row[0] for row in rows(warehouse, "hourly_traffic", day, "hour_start")}
    assert len(starts) == count(warehouse, day) == hours


def test_the_offset_of_a_line_decides_its_day(logs: Path, warehouse: Warehouse) -> None:
    # 00:30 on the 4th at +02:00 is 22:30 on the 3rd in UTC; 23:30 on the 2nd at -01:00 is 00:30 on the 3rd.
    lines = [line(at(22.5), offset=120), line(at(0.5), offset=-60), line(at(24.5), offset=-60)]
    assert "04/Oct/2026:00:30:00 +0200" in lines[0]
    (logs / "access.log").write_text("".join(lines))
    run()
    assert {row[0] for row in rows(warehouse, "hourly_traffic", columns="hour_start")} == {at(22), at(0)}


# ------------------------------------------------------------------------------------------------ broken lines
def test_broken_lines_belong_to_the_line_before_or_else_after_them(logs: Path, warehouse: Warehouse) -> None:
    day2 = date(2026, 10, 4)
    text = ["first\n", "second\n", *full_day(), "third\n", *full_day(day2), "fourth\n"]
    (logs / "access.log").write_text("".join(text))
    run()
    run(day2)
    assert rows(warehouse, "daily_traffic", columns="lines_read, lines_broken") == [(27, 3)]
    assert rows(warehouse, "daily_traffic", day2, "lines_read, lines_broken") == [(25, 1)]
    assert subject(warehouse)[3]["broken_samples"] == ["first", "second", "third"]


def test_bytes_that_are_no_text_nul_and_endless_lines_are_broken(logs: Path, warehouse: Warehouse) -> None:
    good = "".join(full_day()).encode()
    bad = [b"\xff\xfe\x00", good[:50] + b"\x00\x01", b"x" * 1_500_000, line(at(1)).encode()[:-1] + b"\xc3"]
    # A log that was truncated while it was copied may begin with NUL bytes.
    (logs / "access.log").write_bytes(b"\x00" * 20 + good + b"\n".join(bad) + b"\n\n\r\n")
    run()
    assert rows(warehouse, "daily_traffic", columns="requests, lines_read, lines_broken") == [(24, 28, 4)]
    assert all("\x00" not in sample and len(sample) <= 200 for sample in subject(warehouse)[3]["broken_samples"])


def test_a_hole_where_a_truncated_log_was_and_absurd_years(logs: Path, warehouse: Warehouse) -> None:
    with (logs / "access.log").open("wb") as file:
        file.truncate(80 << 20)  # NUL bytes, as copytruncate leaves them for a writer that does not append
        file.seek(0, os.SEEK_END)
        old = line(at(1)).replace("/2026:", "/0001:").encode()
        file.write(line(at(0)).encode() + "".join(full_day()).encode() + old)
    run()
    # The first line is one with the hole, longer than any line may be.
    assert rows(warehouse, "daily_traffic", columns="requests, lines_read, lines_broken") == [(24, 26, 2)]


def test_at_most_five_samples_without_secrets(logs: Path, warehouse: Warehouse) -> None:
    secrets = [
        "GET /?token=s3cr3tvalue&a=1 x",
        'GET / "Authorization: Bearer abc.def.ghi" x',
        "password=hunter2 user=bob",
        "GET /reset/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 x",
        "key: QWxhZGRpbjpvcGVuIHNlc2FtZTEyMzQ1 " + "y" * 500,
        "sixth",
    ]
    (logs / "access.log").write_text("".join(full_day()) + "\n".join(secrets) + "\n")
    run()
    samples = subject(warehouse)[3]["broken_samples"]
    assert len(samples) == 5
    assert all(len(sample) <= 200 for sample in samples)
    text = json.dumps(samples)
    for secret in ("s3cr3tvalue", "abc.def", "hunter2", "9f86d081", "QWxhZG"):
        assert secret not in text
    assert samples[0] == "GET /?token=***&a=1 x"
    assert "user=bob" in text


def test_log_in_another_format_is_no_quiet_day(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text('2026-10-03T05:00:00Z "GET / HTTP/1.1" 200\n' * 30)
    run()
    state, _, reason, detail = subject(warehouse)
    assert (state, reason) == ("missing", "the access logs hold no readable line of the day, but 30 broken ones")
    assert detail["lines"]["access_broken"] == 30


def test_very_many_different_broken_lines(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day()) + "".join(f"broken {n}\n" for n in range(12_000)))
    run()
    assert count(warehouse, column="lines_broken") == 12_000


def test_damaged_archive_gives_what_is_left_and_says_so(logs: Path, warehouse: Warehouse) -> None:
    text = "".join(random_lines(DAY, "UTC", 4000, seed=5))
    packed = zstandard.compress(text.encode())
    (logs / "access.log.1.zst").write_bytes(packed[: len(packed) * 2 // 3])
    run()
    state, _, reason, detail = subject(warehouse)
    assert (state, detail["damaged_files"]) == ("partial", ["access.log"])
    assert "damaged, so that lines are missing: access.log" in reason
    (logs / "access.log.1.zst").write_bytes(packed)
    assert run() == [DAY]
    (logs / "plain").write_text(text)
    assert count(warehouse) == recount([logs / "plain"], DAY, "UTC")["daily_traffic"][5]
    assert "damaged" not in subject(warehouse)[2]


def test_a_day_whose_lines_may_stand_behind_a_link_is_partial(logs: Path, warehouse: Warehouse, tmp_path: Path) -> None:
    (logs / "access.log-2026-10-03").write_text("".join(full_day()))
    (logs / "access.log").symlink_to("access.log-2026-10-03")  # as cronolog does
    for name, written in (("access.log.web2", at(12)), ("access.log.old", at(-4))):
        (tmp_path / name).write_text("".join(full_day()))
        os.utime(tmp_path / name, (written.timestamp(), written.timestamp()))
        (logs / name).symlink_to(tmp_path / name)
    (logs / "access.log.none").symlink_to(tmp_path / "nothing")
    run()
    said = "links are not read, so that lines may be missing: access.log.web2; put the files in their place"
    assert subject(warehouse)[:3] == ("partial", Decimal("0.98000"), said)
    assert count(warehouse) == 24
    run(date(2026, 10, 2))
    said = said.replace("access.log.web2", "access.log.old, access.log.web2")
    assert subject(warehouse, date(2026, 10, 2))[2] == f"the access logs hold no line of the day; {said}"
    (logs / "access.log.web2").unlink()
    (logs / "access.log.web2").write_text("".join(full_day(seconds="0.121")))
    run()
    assert subject(warehouse)[:3] == ("complete", 1, "")
    assert count(warehouse) == 48


# ------------------------------------------------------------------------------------------------ error summary
def test_error_summary_of_the_three_logs(logs: Path, warehouse: Warehouse) -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 3\nsqlalchemy.exc.TimeoutError: pool 5 of 5\n'
    noon = "2026-10-03T12:00:00.123456+00:00"
    (logs / "access.log").write_text(
        "".join(full_day()) + line(at(2), "GET /api/users/1", 404) + line(at(2), "GET /api/users/2", 502) * 2
    )
    (logs / "application.log").write_text(
        json_line(time=noon, level="ERROR", logger="app.db", message="m", path="/api/users/77?x=1", exception=trace)
        + json_line(time=noon, level="CRITICAL", logger="app.pay", message="m 1", path=None, exception=None)
        + json_line(time=noon, level="critical", logger="app.pay", message="m 2")
        + json_line(time=noon, level="error", logger="a", message="m", path="/", exception="ValueError: 7 is wrong")
        + json_line(time=noon, level="INFO", logger="app", message="all is well", path="/", exception=None)
        + json_line(time="2026-10-03T01:00:00", level="ERROR", logger="no offset", message="m")
        + "not json\n"
        + json_line(time="2026-10-04T01:00:00+02:00", level="ERROR", logger="late", message="m")  # 23:00 in UTC
        + json_line(time="2026-10-03T01:00:00+02:00", level="ERROR", logger="other day", message="m")
    )
    refused = (
        "connect() failed (111: Connection refused) while connecting to upstream, client: 203.0.113.9, server: _, "
        'request: "GET /api/users/3 HTTP/1.1", upstream: "http://127.0.0.1:8000/api/users/3", host: "a"'
    )
    (logs / "error.log").write_text(
        f"2026/10/03 00:00:00 [error] 12#0: *5 {refused}\n2026/10/03 23:59:59 [crit] 13#0: *6 {refused}\n"
        "2026/10/03 05:00:00 [warn] 12#0: *5 a warning\n2026/10/03 05:00:00 [emerg] 1#1: no memory for 4096 bytes\n"
        '2026/10/03 05:00:00 [error] 1#1: *9 open() "/srv/a/17.html" failed (2: No such file or directory), '
        'client: 1.1.1.1, server: _, request: "GET /a/17.html HTTP/1.1"\n'
        "a line that goes on\n2026/10/04 00:00:00 [error] 1#1: next day\n"
    )
    run()
    assert set(rows(warehouse, "daily_error", columns="source, kind, endpoint, errors")) == {
        ("access", "HTTP 404", "/api/users/{id}", 1),
        ("access", "HTTP 502", "/api/users/{id}", 2),
        ("application", "sqlalchemy.exc.TimeoutError", "/api/users/{id}", 1),
        ("application", "app.pay CRITICAL", "-", 2),
        ("application", "ValueError", "/", 1),
        ("application", "late ERROR", "-", 1),
        ("error", "connect() failed (#: Connection refused) while connecting to upstream", "/api/users/{id}", 2),
        ("error", "no memory for # bytes", "-", 1),
        ("error", 'open() "..." failed (#: No such file or directory)', "/a/17.html", 1),
    }
    lines = subject(warehouse)[3]["lines"]
    assert (lines["application_read"], lines["application_broken"]) == (8, 2)
    assert (lines["error_read"], lines["error_broken"]) == (6, 1)


def test_what_opens_a_door_reaches_no_table(logs: Path, warehouse: Warehouse) -> None:
    noon, token = "2026-10-03T12:00:00Z", "kJsd_fKQwZtopSecretToken9A"
    signed = "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK"
    (logs / "access.log").write_text(
        "".join(full_day()) + line(at(2), f"GET /reset/{token}", 404) + line(at(2), f"GET /magic/{signed}?next=/", 404)
    )
    told = {"time": noon, "level": "ERROR", "logger": "a", "message": "m"}
    (logs / "application.log").write_text(
        json_line(**told, path=f"/reset/{token}", exception=f"Used {token}")
        + json_line(**told, path="/reset/777", exception=f"Used {token[::-1]}")
    )
    (logs / "error.log").write_text(f"2026/10/03 05:00:00 [error] 1#1: no session {signed}, client: 1.1.1.1\n")
    run()
    assert set(rows(warehouse, "daily_error", columns="source, kind, endpoint, errors")) == {
        ("access", "HTTP 404", "/reset/{id}", 1),
        ("access", "HTTP 404", "/magic/{id}", 1),
        ("application", "Used ***", "/reset/{id}", 2),
        ("error", "no session ***", "-", 1),
    }
    assert {row[0] for row in rows(warehouse, "hourly_traffic", columns="endpoint")} == {
        "/",
        "/reset/{id}",
        "/magic/{id}",
    }


def test_error_log_is_in_the_platforms_own_time(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text("".join(full_day(zone="America/New_York")))
    (logs / "error.log").write_text("2026/10/03 23:30:00 [error] 1#1: x\n2026/10/04 00:30:00 [error] 1#1: y\n")
    run(zone="America/New_York")
    assert rows(warehouse, "daily_error", columns="kind, errors") == [("x", 1)]


def test_at_most_the_configured_number_of_endpoints_and_kinds(
    logs: Path, warehouse: Warehouse, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__LARGEST_NUMBER_OF_ENDPOINTS", "3")
    settings.cache_clear()
    targets = ["/a", "/b", "/c", "/d", "/e", "/e", "/d"]  # d and e twice, then a, b, c in the order of their names
    (logs / "access.log").write_text("".join(line(at(h), f"GET {t} HTTP/1.1") for h, t in enumerate(targets)))
    (logs / "error.log").write_text("".join(f"2026/10/03 05:00:00 [error] 1#1: {k}\n" for k in "zyxxw"))
    run()
    found = rows(warehouse, "hourly_traffic", columns="endpoint, requests")
    totals = {name: sum(n for e, n in found if e == name) for name, _ in found}
    assert totals == {"/d": 2, "/e": 2, "/a": 1, "(other)": 2}
    assert set(rows(warehouse, "daily_error", columns="kind, errors")) == {("x", 2), ("w", 1), ("y", 1), ("(other)", 1)}


def test_endless_paths_fit_the_warehouse(logs: Path, warehouse: Warehouse) -> None:
    (logs / "access.log").write_text(
        "".join(full_day()) + line(at(1), f"GET /{'a?' * 2000}") + line(at(1), f"GET /{'-' * 8000}x", 404)
    )
    run()
    assert max(len(row[0]) for row in rows(warehouse, "hourly_traffic", columns="endpoint")) == 200
