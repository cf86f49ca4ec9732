"""A report before it is written: sections of lines and tables, charts, a verdict. Written as Markdown and as HTML."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import Outcome
from include.reporting import charts
from include.reporting.figures import Figure
from include.warehouse.metrics import canonical

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST_TEXT = 240


def clean(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Make a text from outside (a path, a message, a title) fit for one line.

    White space becomes single blanks, invisible and direction-changing characters become visible ones, and a text
    longer than ``longest`` ends with an ellipsis.
    """
    one_line = " ".join(text.split())
    visible = "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Cf", "Cs") else sign for sign in one_line)
    return visible if len(visible) <= longest else visible[: longest - 1].rstrip() + "…"


def escape_markdown(text: str) -> str:
    """Escape a text so that no Markdown reader takes any of it for markup, a link, HTML or the end of a table cell."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]~])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return text.replace("|", "&#124;").replace("://", r":\//").replace("www.", r"www\.")


@dataclass(frozen=True)
class Line:
    """``- Label: text (note)`` with further lines below it; a line without a label is its text alone."""

    label: str
    text: str
    note: str = ""
    outcome: Outcome = Outcome.NOT_APPLICABLE
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table; ``text_columns`` leading columns are text, the others numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1


@dataclass(frozen=True)
class Section:
    """A headed part of a report. ``of_guide`` are the guide's own sections, which come first in its order."""

    heading: str
    lines: tuple[Line, ...] = ()
    table: Table | None = None
    remark: str = ""
    of_guide: bool = False


@dataclass(frozen=True)
class Document:
    """Everything a report is rendered from."""

    kind: str
    platform: str
    name: str
    day: str
    window: str
    verdict: Outcome
    headline: str
    completeness: Decimal
    completeness_text: str
    incomplete: tuple[str, ...]
    sections: tuple[Section, ...]
    charts: tuple[charts.Chart, ...]
    figures: tuple[Figure, ...]

    @property
    def title(self) -> str:
        """The guide's title, such as Daily System Health Report - 2026-10-03."""
        return f"{self.name} - {self.day}"

    @property
    def missing(self) -> list[str]:
        """Names of the figures that are absent because their source was."""
        return [figure.name for figure in self.figures if figure.is_missing]

    @property
    def input_hash(self) -> str:
        """SHA-256 over the canonical form of everything the document says."""
        return sha256(canonical(_plain(self)).encode()).hexdigest()


def figure_line(figure: Figure) -> Line:
    """Write a figure as a line: its text with the comparison, or why it is not available."""
    if figure.value is None:
        return Line(figure.label, figure.text, clean(figure.reason), figure.outcome)
    return Line(figure.label, figure.text, figure.comparison_text, figure.outcome)


def _plain(value: Any) -> Any:
    """Return dataclasses as dictionaries and sets as sorted lists, for the canonical form."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(_plain(item) for item in value)
    return value


def markdown(document: Document) -> str:
    """Write the document as Markdown in the guide's format."""
    return _environment().get_template("daily_report.md.j2").render(document=document)


def html(document: Document) -> str:
    """Write the document as one self-contained HTML page."""
    return _environment().get_template("daily_report.html.j2").render(document=document, style=_style())


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), disabled_extensions=("md.j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "escape_markdown": escape_markdown,
        "draw": charts.draw,
        "last_known": charts.last_known,
    }
    return environment


def _style() -> Any:
    from markupsafe import Markup

    return Markup((Path(__file__).parent / "templates" / "daily_report.css").read_text())  # noqa: S704 - our own file
