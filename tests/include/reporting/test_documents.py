"""Reports as pages and as Markdown: self-contained, and safe with hostile names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import psycopg
import pytest

from include.reporting import reports
from include.reporting.documents import clean, escape_markdown
from include.warehouse import reports as stored
from tests.include.reporting.report_rows import (
    DAY,
    HEALTH,
    WINDOW,
    insert_day,
    insert_incident,
    one,
    set_subject,
)

HOSTILE = (
    '/a|b`c*d_e_[x](javascript:alert(1))<script>alert(1)</script>"\n| --- |\n## Heading https://evil.example/\u202e'
)


class Page(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_hostile_names_are_shown_and_never_run(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY, errors=(("error", HOSTILE, HOSTILE, 5),), revenue=((HOSTILE, 1, "1"),))
    insert_incident(warehouse, 1, title=HOSTILE, affected=HOSTILE)
    set_subject(warehouse, DAY, "users", "missing", 0, HOSTILE)
    reports.render_day(WINDOW, "run")
    for report in stored.of_day(warehouse, WINDOW.key):
        page = Page()
        page.feed(report.html)
        assert not {"script", "a", "img", "iframe", "link", "object", "form"} & set(page.elements)
        assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "src")]
        assert not [value for _, value in page.attributes if "//" in value or "javascript" in value]
        assert "<script" not in report.markdown
        assert "\u202e" not in report.markdown + report.html
        assert not re.search(r"^(## Heading|\| --- \|$)", report.markdown, re.M)


def test_markdown_readers_see_hostile_text_as_text(warehouse: psycopg.Connection) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    insert_day(warehouse, DAY, errors=(("error", HOSTILE, HOSTILE, 5),))
    reports.render_day(WINDOW, "run")
    html = markdown_it.MarkdownIt("commonmark").enable("table").render(one(warehouse, HEALTH).markdown)
    page = Page()
    page.feed(html)
    assert set(page.elements) <= {"h2", "h3", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert not {name for name, _ in page.attributes} - {"style"}
    row = next(text for text in html.split("<tr>")[1:] if "alert" in text)
    assert row.count("<td") == 4


def test_the_page_stands_alone(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    for report in stored.of_day(warehouse, WINDOW.key):
        assert not re.search(r"https?://|@import|url\(", report.html)
        page = Page()
        page.feed(report.html)
        assert page.elements.count("svg") == 4
        assert not {"script", "link", "img", "iframe"} & set(page.elements)
        identifiers = [value for name, value in page.attributes if name == "id"]
        assert len(identifiers) == len(set(identifiers))


def test_escaping_by_hand() -> None:
    assert escape_markdown("a_b _c_ *d* <e> & |f| `g` [h](i)") == (
        r"a_b \_c\_ \*d\* &lt;e&gt; &amp; &#124;f&#124; \`g\` \[h\](i)"
    )
    assert clean(" a\n\tb\x00c\u200fd ") == "a b\ufffdc\ufffdd"
    assert clean("x" * 300) == "x" * 239 + "…"
