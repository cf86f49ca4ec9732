"""Line charts as inline SVG, drawn without a library: no scripts, no assets, the same data always the same text.

Colours are CSS variables of the page (--series-1, --series-2, --grid, --ink-soft, --target, --gap, --card), so a chart
follows light and dark mode and print. A day without a value is a gap with a shaded band, never interpolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby

from markupsafe import Markup, escape

from include.reporting import formats
from include.reporting.formats import Number, Unit

WIDTH, HEIGHT = 460, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 50, 14, 26
TICKS = 4
_TARGET_WITHIN = 3  # a target more than this many times the largest value would flatten the lines: it is told instead
_LABEL_HEIGHT = 13.0
_THOUSANDS = ((10**9, 10**9, "B"), (10**6, 10**6, "M"), (10**4, 1000, "k"))


@dataclass(frozen=True)
class Series:
    """One line: its name and a value per day, None where there is none."""

    name: str
    values: tuple[Number | None, ...]


@dataclass(frozen=True)
class Chart:
    """A chart of one or two series over consecutive days.

    ``target`` is drawn as a dashed line (``target_of`` names the series it is for, when there are more);
    ``incomplete`` are days whose source was partly missing.
    """

    name: str
    title: str
    unit: Unit
    days: tuple[date, ...]
    series: tuple[Series, ...]
    target: Decimal | None = None
    target_of: str = ""
    incomplete: frozenset[date] = frozenset()

    @property
    def known(self) -> list[Number]:
        """Every value of the chart."""
        return [value for series in self.series for value in series.values if value is not None]

    @property
    def has_gaps(self) -> bool:
        """Whether any day of a drawn chart has no value at all."""
        return bool(self.known) and any(self.is_gap(index) for index in range(len(self.days)))

    def is_gap(self, index: int) -> bool:
        """Whether no series has a value on the day."""
        return all(series.values[index] is None for series in self.series)

    @property
    def target_is_drawn(self) -> bool:
        """Whether the target lies near enough to the values to be drawn."""
        return self.target is not None and bool(self.known) and self.target <= _TARGET_WITHIN * max(self.known)

    @property
    def target_note(self) -> str:
        """How the legend names the target."""
        if self.target is None:
            return ""
        text = f"target{f' of the {self.target_of}' if self.target_of else ''} {tick_text(self.target, self.unit)}"
        return text if self.target_is_drawn or not self.known else f"{text} (above the chart)"


def last_known(series: Series) -> Number | None:
    """Return the series' last value that is there."""
    return next((value for value in reversed(series.values) if value is not None), None)


def step(span: Decimal, ticks: int = TICKS, *, whole: bool = False) -> Decimal:
    """Return the smallest of 1, 2, 2.5 or 5 times a power of ten that covers ``span`` in at most ``ticks`` steps.

    ``whole`` allows whole numbers only (counts). A span of zero gives 1.
    """
    if span <= 0:
        return Decimal(1)
    power = Decimal(1).scaleb((span / ticks).adjusted())
    for factor in ("1", "2", "2.5", "5", "10"):
        found = Decimal(factor) * power
        if found * ticks >= span and not (whole and found != found.to_integral_value()):
            return found
    return Decimal(1)


def tick_text(value: Decimal, unit: Unit) -> str:
    """Write a round number of an axis: 0.5s, 1%, $2.5M, 1,500."""
    if value == 0:
        return "0"
    shortened = value.normalize()
    if unit is Unit.SHARE:
        return formats.limit(value)
    if unit is Unit.SECONDS:
        return f"{shortened:f}s"
    if unit in (Unit.COUNT, Unit.US_DOLLARS):
        sign = ("-" if value < 0 else "") + ("$" if unit is Unit.US_DOLLARS else "")
        scaled, name = next(
            ((abs(value) / size, name) for above, size, name in _THOUSANDS if abs(value) >= above), (abs(value), "")
        )
        return f"{sign}{scaled.normalize():,f}{name}"
    return f"{shortened:,f}"


@dataclass(frozen=True)
class _Scale:
    """Where days and values lie in the drawing."""

    days: int
    top: Decimal
    bottom: Decimal

    def x(self, index: int) -> float:
        width = WIDTH - LEFT - RIGHT
        return LEFT + (width / 2 if self.days < 2 else width * index / (self.days - 1))

    def y(self, value: Number) -> float:
        height = HEIGHT - TOP - BOTTOM
        return TOP + height * float((self.top - Decimal(value)) / (self.top - self.bottom))

    @property
    def band(self) -> float:
        """Width of one day."""
        return (WIDTH - LEFT - RIGHT) / max(1, self.days - 1)


def draw(chart: Chart) -> Markup:
    """Return the chart as an SVG element; it names itself and its values for screen readers."""
    scale, ticks = _axis(chart)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{escape(chart.name)}-title {escape(chart.name)}-text">',
        f'<title id="{escape(chart.name)}-title">{escape(chart.title)}</title>',
        f'<desc id="{escape(chart.name)}-text">{escape(describe(chart))}</desc>',
        *_grid(chart, scale, ticks),
    ]
    if chart.known:
        parts += [*_gaps(chart, scale), *_target(chart, scale)]
        for number, series in enumerate(chart.series, 1):
            parts += _line(chart, series, number, scale)
        parts += [*_last_values(chart, scale), *_tooltips(chart, scale)]
    else:
        parts.append(
            f'<text class="nothing" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT / 2}">no data in these days</text>'
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - every text in it was escaped


def describe(chart: Chart) -> str:
    """Say in words what the chart shows."""
    if not chart.days:
        return "No days."
    parts = [f"{len(chart.days)} {'day' if len(chart.days) == 1 else 'days'} from {chart.days[0]} to {chart.days[-1]}"]
    for series in chart.series:
        known = [value for value in series.values if value is not None]
        if not known:
            parts.append(f"{series.name}: no data")
            continue
        low, high, last = (formats.write(value, chart.unit) for value in (min(known), max(known), known[-1]))
        absent = len(series.values) - len(known)
        gap = f", {absent} {'day' if absent == 1 else 'days'} without data" if absent else ""
        parts.append(f"{series.name}: last {last}, lowest {low}, highest {high}{gap}")
    return "; ".join(parts) + "."


def _axis(chart: Chart) -> tuple[_Scale, list[Decimal]]:
    """The axis begins at zero, so that heights can be compared, unless values are negative."""
    values = [Decimal(value) for value in chart.known]
    if chart.target_is_drawn and chart.target is not None:
        values.append(chart.target)
    high, low = max([*values, Decimal(0)]), min([*values, Decimal(0)])
    each = step(high - low, whole=chart.unit is Unit.COUNT)
    first, last = (
        int((low / each).to_integral_value("ROUND_FLOOR")),
        int((high / each).to_integral_value("ROUND_CEILING")),
    )
    ticks = [each * n for n in range(first, max(last, first + 1) + 1)]
    return _Scale(len(chart.days), ticks[-1], ticks[0]), ticks


def _grid(chart: Chart, scale: _Scale, ticks: Sequence[Decimal]) -> Iterator[str]:
    for tick in ticks:
        y = scale.y(tick)
        kind = "zero" if tick == 0 else "rule"
        yield f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 3.8:.1f}">{escape(tick_text(tick, chart.unit))}</text>'
    if chart.days:
        y = HEIGHT - 6
        yield f'<text class="date" x="{LEFT}" y="{y}">{chart.days[0]:%d %b}</text>'
        if len(chart.days) > 1:
            yield f'<text class="date end" x="{WIDTH - RIGHT}" y="{y}">{chart.days[-1]:%d %b}</text>'


def _gaps(chart: Chart, scale: _Scale) -> Iterator[str]:
    for index in range(len(chart.days)):
        if chart.is_gap(index):
            left = max(float(LEFT), scale.x(index) - scale.band / 2)
            right = min(float(WIDTH - RIGHT), scale.x(index) + scale.band / 2)
            yield (
                f'<rect class="gap" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"/>'
            )


def _target(chart: Chart, scale: _Scale) -> Iterator[str]:
    if chart.target_is_drawn and chart.target is not None:
        y = scale.y(chart.target)
        yield f'<line class="target" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'


def _line(chart: Chart, series: Series, number: int, scale: _Scale) -> Iterator[str]:
    """Draw a line through each run of known days; a day that stands alone is a dot, an incomplete one a ring."""
    indexed = list(enumerate(series.values))
    for known, run in groupby(indexed, key=lambda pair: pair[1] is not None):
        points = [(scale.x(index), scale.y(value)) for index, value in run if value is not None]
        if known and len(points) > 1:
            yield f'<polyline class="line s{number}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
        elif known:
            yield f'<circle class="dot s{number}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.6"/>'
    for index, value in indexed:
        if value is not None and chart.days[index] in chart.incomplete:
            yield f'<circle class="ring s{number}" cx="{scale.x(index):.1f}" cy="{scale.y(value):.1f}" r="3"/>'


def _last_values(chart: Chart, scale: _Scale) -> Iterator[str]:
    """Label each line's last value beside it; labels that would overlap are moved apart."""
    ends = []
    for number, series in enumerate(chart.series, 1):
        index = next((i for i in reversed(range(len(series.values))) if series.values[i] is not None), None)
        if index is not None and (value := series.values[index]) is not None:
            ends.append((scale.y(value), scale.x(index), number, value, _mark(chart, index)))
    ends.sort()
    floor = float(TOP)
    for y, x, number, value, mark in ends:
        yield f'<circle class="{mark} s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
        label = max(y, floor)
        floor = label + _LABEL_HEIGHT
        yield (
            f'<text class="last s{number}" x="{x + 7:.1f}" y="{label + 4:.1f}">'
            f"{escape(_short(value, chart.unit))}</text>"
        )


def _mark(chart: Chart, index: int) -> str:
    return "ring" if chart.days[index] in chart.incomplete else "dot"


def _short(value: Number, unit: Unit) -> str:
    """Write a value short enough for the margin."""
    if unit is Unit.COUNT and value >= 100_000:
        scaled, name = next((Decimal(value) / size, name) for above, size, name in _THOUSANDS if value >= above)
        return f"{formats.rounded(scaled, 1 if scaled < 100 else 0):,}{name}"
    return formats.write(value, unit)


def _tooltips(chart: Chart, scale: _Scale) -> Iterator[str]:
    for index, day in enumerate(chart.days):
        texts = [f"{series.name} {_known_text(series.values[index], chart.unit)}" for series in chart.series]
        note = " (incomplete)" if day in chart.incomplete else ""
        left = scale.x(index) - scale.band / 2
        yield (
            f'<rect class="touch" x="{left:.1f}" y="{TOP}" width="{scale.band:.1f}" height="{HEIGHT - TOP - BOTTOM}">'
            f"<title>{escape(f'{day:%a} {day}: ' + ', '.join(texts) + note)}</title></rect>"
        )


def _known_text(value: Number | None, unit: Unit) -> str:
    return "no data" if value is None else formats.write(value, unit)
