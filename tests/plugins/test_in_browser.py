"""The board inside a running Airflow, in headless Chromium: what people see, in light and dark mode and on a phone."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright

from demo.airflow import USER, Airflow
from demo.databases import Databases
from demo.install import VENV
from demo.processes import Processes
from include.reporting import reports
from include.window import week_window
from tests.include.reporting import report_rows
from tests.plugins import rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
PICTURES = os.environ.get("BOARD_PICTURES")

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.end_to_end,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this machine (chromium, google-chrome)"),
]

HOSTILE = """<!DOCTYPE html><html><head><title>Hostile</title><meta http-equiv="refresh" content="0;url=ELSEWHERE/r">
</head><body onload="top.location='ELSEWHERE/a'">
<h1>Hostile report</h1><script>document.title = 'ran'; fetch('ELSEWHERE/b')</script>
<img src="ELSEWHERE/c.png" alt=""><link rel="stylesheet" href="ELSEWHERE/d.css"><form action="ELSEWHERE/f"></form>
<style>body { background: url(ELSEWHERE/g.png) } @font-face { font-family: x; src: url(ELSEWHERE/h) } h1 { font: 1em x }
</style><iframe src="ELSEWHERE/e"></iframe><object data="ELSEWHERE/o"></object></body></html>"""


@dataclass
class Server:
    """A running Airflow with a filled warehouse."""

    url: str
    password: str
    warehouse: str
    day: str
    incident: str

    @property
    def board(self) -> str:
        return f"{self.url}/operations-board/"


@pytest.fixture(scope="module")
def server(
    databases: Databases, airflow_database: str, warehouse_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("airflow")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    warehouse = f"warehouse_board_{worker}"
    databases.create(warehouse, "warehouse_owner", template=warehouse_template)
    with (
        pytest.MonkeyPatch.context() as patch,
        psycopg.connect(databases.url(warehouse, "warehouse_owner"), autocommit=True) as owner,
    ):
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", databases.url(warehouse, "warehouse_writer"))
        now = datetime.now(UTC).replace(microsecond=0)
        day = rows.fill(owner, now)
    processes = Processes(folder / "processes.json")
    airflow = Airflow(
        processes,
        folder,
        database_url=airflow_database,
        connections={"AIRFLOW_CONN_WAREHOUSE_READER": databases.url(warehouse, "warehouse_reader")},
        preferred_port=None,
    )
    try:
        child = processes.start(
            "Airflow api-server", [VENV / "bin" / "airflow", "api-server"],
            log=folder / "api-server.log", environment=airflow.environment,
        )  # fmt: skip
        health = f"{airflow.url}/api/v2/monitor/health"
        processes.wait_until(child, lambda: httpx.get(health, timeout=2).status_code == 200, seconds=120)
        yield Server(airflow.url, airflow.password, warehouse, day.isoformat(), f"incidents/INC-{now.year}-005")
    finally:
        processes.stop_all()
        databases.drop(warehouse)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # Playwright's own 5 s are little beside a busy Airflow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A browser tab and what it did: the hosts it asked and the complaints of the board's pages."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def tab(chromium: Browser, **options: Any) -> Iterator[Tab]:
    """A tab of a fresh browser profile."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    page = context.new_page()
    found = Tab(page)
    page.on("request", lambda request: _note_host(found, request.url))
    page.on("console", lambda message: _complain(found, message.type, message.location.get("url", ""), message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)) if "operations-board" in page.url else None)
    yield found
    context.close()


def _note_host(found: Tab, url: str) -> None:
    if urlsplit(url).scheme not in ("data", "blob"):
        found.hosts.add(urlsplit(url).hostname or url)


def _complain(found: Tab, kind: str, url: str, text: str) -> None:
    # Airflow itself frames every plugin's page this way; the board has no scripts that could make use of it.
    of_airflow = "allow-scripts and allow-same-origin" in text
    if kind in ("error", "warning") and "/operations-board/" in url and not of_airflow:
        found.complaints.append(f"{url}: {text}")


def log_in(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.get_by_label("Username").fill(USER)
    page.locator("input[type=password]").fill(server.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Operations board").wait_for()


def board_frame(page: Page) -> Frame:
    page.locator("iframe[title='Operations board']").wait_for()
    frame = page.locator("iframe[title='Operations board']").element_handle().content_frame()
    assert frame is not None
    return frame


def picture(page: Page, name: str, **options: Any) -> None:
    """Keep a picture for people to look at, where BOARD_PICTURES names a folder."""
    if PICTURES:
        page.wait_for_timeout(500)
        page.screenshot(path=Path(PICTURES) / f"{name}.png", **options)


CONTRAST = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = element => { const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    const box = element.getBoundingClientRect();
    if (!text || box.width < 2 || box.height < 2 || element.matches('.unseen, .skip')) continue;
    const behind = back(element), front = over(parse(getComputedStyle(element).color), behind);
    const [a, b] = [light(front), light(behind)].sort((x, y) => y - x);
    found.push({ratio: (a + 0.05) / (b + 0.05), text: text.slice(0, 40), colour: front.join(), behind: behind.join()});
  }
  return found;
}"""


TOO_WIDE = """() => [...document.querySelectorAll('.panel')]
  .filter(panel => panel.scrollWidth > panel.clientWidth + 1).map(panel => panel.textContent.trim().slice(0, 40))"""


def pages_of(server: Server) -> dict[str, str]:
    return {
        "overview": "",
        "archive": "reports",
        "archive-one-kind": "reports?kind=daily_system_health",
        "report": f"reports/daily_system_health/{server.day}",
        "periods": "periods",
        "week": f"periods/week/{week_window(date.fromisoformat(server.day), 'UTC').key}",
        "week-before": f"periods/week/{week_window(date.fromisoformat(server.day) - timedelta(weeks=1), 'UTC').key}",
        "month": f"periods/month/{server.day[:7]}",
        "month-before": f"periods/month/{date.fromisoformat(server.day).replace(day=1) - timedelta(days=1):%Y-%m}",
        "incidents": "incidents",
        "incident": server.incident,
        "maintenance": "maintenance",
        "action-failed": "maintenance/8",
        "action-proven": "maintenance/3",
        "findings": "findings",
        "findings-of-a-check": "findings?outcome=all&check=wraparound",
        "finding": "findings/4",
        "finding-long-remedy": "findings/8",
        "drills": "drills",
        "drill-passed": "drills/10",
        "drill-could-not-run": "drills/15",
        "not-found": "no/such/page",
    }


def test_the_board_stands_in_airflows_navigation_and_shows_inside_airflow(server: Server, chromium: Browser) -> None:
    with tab(chromium, color_scheme="dark") as shown:
        log_in(shown.page, server)
        entry = shown.page.get_by_role("link", name="Operations board")
        assert entry.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
        entry.click()
        frame = board_frame(shown.page)
        expect(frame.get_by_role("heading", level=1)).to_have_text("1 thing is wrong")
        picture(shown.page, "in-airflow")

        frame.get_by_role("link", name="Open with charts").first.click()
        document = frame.frame_locator("iframe").first
        expect(document.locator("#headline")).to_contain_text("Error rate 1.34%")
        expect(document.locator("svg")).to_be_visible()
        picture(shown.page, "report-in-airflow")

        # Airflow keeps the board's page in its own address, so that a reload or a shared link shows the same page.
        shown.page.wait_for_url(f"**/plugin/operations-board/operations-board/reports/daily_system_health/{server.day}")
        shown.page.reload()
        expect(board_frame(shown.page).get_by_role("heading", level=1)).to_contain_text("System health")
        assert shown.hosts == {"127.0.0.1"}
        assert shown.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_and_nothing_leaves_the_host(server: Server, chromium: Browser, scheme: str) -> None:
    with tab(chromium, color_scheme=scheme) as shown:
        log_in(shown.page, server)
        shown.complaints.clear()
        for name, path in pages_of(server).items():
            shown.page.goto(server.board + path)
            picture(shown.page, f"{name}-{scheme}", full_page=True)
            measured = shown.page.evaluate(CONTRAST)
            assert len(measured) > 5, name
            low = [text for text in measured if text["ratio"] < 4.5]  # WCAG 2.2, 1.4.3
            assert low == [], name
            assert shown.page.evaluate(TOO_WIDE) == [], name
            back = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
            red = int(back.partition("(")[2].partition(",")[0])
            assert red > 200 if scheme == "light" else red < 40, name
            assert shown.page.evaluate("document.querySelectorAll('script').length") == 0
        assert shown.hosts == {"127.0.0.1"}
        assert [text for text in shown.complaints if "404" not in text] == []


def test_every_page_fits_a_phone(server: Server, chromium: Browser) -> None:
    size = {"width": 360, "height": 780}
    with tab(chromium, viewport=size, device_scale_factor=2, is_mobile=True, has_touch=True) as shown:
        log_in(shown.page, server)
        for name, path in pages_of(server).items():
            shown.page.goto(server.board + path)
            picture(shown.page, f"{name}-phone", full_page=name != "report")
            wide = shown.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert wide[0] <= wide[1] == 360, name


def test_the_keyboard_reaches_everything_in_order(server: Server, chromium: Browser) -> None:
    with tab(chromium) as shown:
        log_in(shown.page, server)
        shown.page.goto(server.board)
        focused = []
        for _ in range(11):
            shown.page.keyboard.press("Tab")
            focused.append(shown.page.evaluate("document.activeElement.textContent.trim()"))
            assert shown.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert focused[:9] == [
            "Skip to the content",
            "Operations board",
            "Overview",
            "Reports",
            "Weeks and months",
            "Incidents",
            "Maintenance",
            "Findings",
            "Drills",
        ]
        assert "INC-" in focused[10]
        assert shown.page.evaluate("document.documentElement.lang") == "en"
        assert shown.page.locator("h1").count() == 1


def test_a_report_can_neither_run_nor_load_anything(server: Server, chromium: Browser, databases: Databases) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, tab(chromium) as shown:
        elsewhere.setblocking(False)
        html = HOSTILE.replace("ELSEWHERE", f"http://127.0.0.1:{elsewhere.getsockname()[1]}")
        with psycopg.connect(databases.url(server.warehouse, "warehouse_owner"), autocommit=True) as owner:
            rows.report(owner, rows.HEALTH, start, "Hostile", "ok", "Hostile", [], html)
            log_in(shown.page, server)
            for path in ("reports/daily_system_health/2026-01-05", "reports/daily_system_health/2026-01-05/document"):
                shown.page.goto(server.board + path)
                shown.page.wait_for_timeout(500)
                assert shown.page.title().startswith("Hostile")
            owner.execute("DELETE FROM ops.report WHERE period_key = '2026-01-05'")
        try:  # Chromium may open a connection ahead of time; nothing may be asked for over it
            caller = elsewhere.accept()[0]
            caller.settimeout(1)
            asked = caller.recv(100)
        except (BlockingIOError, TimeoutError):
            asked = b""
        assert asked == b""


@pytest.fixture(scope="module")
def rendered(server: Server, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Both reports of a day with its four weeks, as the DAG renders them; their kinds."""
    writer = databases.url(server.warehouse, "warehouse_writer")
    folder = {"conn_type": "fs", "extra": {"path": str(tmp_path_factory.mktemp("reports"))}}
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(writer, autocommit=True) as warehouse:
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", writer)
        patch.setenv("AIRFLOW_CONN_REPORTS", json.dumps(folder))
        for days in range(3, 28, 3):
            report_rows.insert_day(warehouse, report_rows.DAY - timedelta(days=days))
        outage = {"errors": 900, "lines_broken": 2}
        report_rows.insert_day(warehouse, report_rows.DAY, down={"overall": 9000}, traffic=outage)
        detail = {"broken_samples": ["GET /" + "long" * 49, "not a line"], "lines": {"error_broken": 2}}
        update = "UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic'"
        warehouse.execute(update, (json.dumps(detail),))
        # Reports of later days that are compared with this one follow it.
        return [kind for kind in reports.render_day(report_rows.WINDOW, "run") if "/" not in kind]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_as_it_is_rendered_can_be_read_with_its_charts(
    server: Server, chromium: Browser, rendered: list[str], scheme: str
) -> None:
    assert len(rendered) == 2
    with tab(chromium, color_scheme=scheme) as shown:
        log_in(shown.page, server)
        shown.complaints.clear()
        for kind in rendered:
            address = f"{server.board}reports/{kind}/{report_rows.DAY}"
            shown.page.goto(address)
            assert shown.page.frame_locator("iframe").first.locator("svg").count() == 4
            shown.page.goto(f"{address}/document")
            picture(shown.page, f"{kind}-{scheme}", full_page=True)
            measured = shown.page.evaluate(CONTRAST)
            assert len(measured) > 40
            assert [text for text in measured if text["ratio"] < 4.5] == []
            for chart in shown.page.locator("svg").all():
                box = chart.bounding_box()
                assert box is not None
                assert box["width"] > 200
                assert box["height"] > 50
            shown.page.set_viewport_size({"width": 360, "height": 780})
            wide = shown.page.evaluate("document.documentElement.scrollWidth")
            picture(shown.page, f"{kind}-{scheme}-phone", full_page=True)
            assert wide <= 360
            shown.page.set_viewport_size({"width": 1280, "height": 900})
        assert shown.complaints == []


def test_a_browser_without_a_login_sees_nothing(server: Server, chromium: Browser) -> None:
    with tab(chromium) as shown:
        for name, path in pages_of(server).items():
            answer = shown.page.goto(server.board + path)
            assert answer is not None
            assert answer.status == 401, name
            assert "INC-" not in shown.page.content()
