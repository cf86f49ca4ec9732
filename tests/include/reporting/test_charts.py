"""Charts read back from their SVG."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from include.reporting import charts
from include.reporting.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series
from include.reporting.formats import Number, Unit

FIRST = date(2026, 9, 1)


def chart(*values: list[Number | None], unit: Unit = Unit.COUNT, **more: object) -> Chart:
    days = tuple(FIRST + timedelta(days=n) for n in range(len(values[0]) if values else 0))
    series = tuple(Series(f"line {n}", tuple(each)) for n, each in enumerate(values, 1))
    return Chart("name", "Title", unit, days, series, **more)  # type: ignore[arg-type]


def drawn(found: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(str(charts.draw(found)))


def all_of(svg: ElementTree.Element, tag: str, name: str = "") -> list[ElementTree.Element]:
    return [each for each in svg.iter(tag) if not name or name in each.get("class", "").split()]


def texts(svg: ElementTree.Element, name: str) -> list[str]:
    return [each.text or "" for each in all_of(svg, "text", name)]


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]  # type: ignore[misc]


def test_a_line_lies_where_its_values_are() -> None:
    svg = drawn(chart([0, 50, 100]))
    bottom, right = HEIGHT - charts.BOTTOM, WIDTH - RIGHT
    assert texts(svg, "tick") == ["0", "25", "50", "75", "100"]
    (line,) = all_of(svg, "polyline")
    middle = (TOP + bottom) / 2
    assert points(line) == [(LEFT, bottom), ((LEFT + right) / 2, middle), (right, TOP)]
    assert texts(svg, "date") == ["01 Sep", "03 Sep"]
    assert texts(svg, "last") == ["100"]


def test_a_day_without_a_value_is_a_gap() -> None:
    svg = drawn(chart([1, 2, None, 4, None, 6, 7]))
    assert [len(points(line)) for line in all_of(svg, "polyline")] == [2, 2]
    alone = [each for each in all_of(svg, "circle", "dot") if each.get("r") == "2.6"]
    assert len(alone) == 1  # the fourth day stands between two gaps
    assert len(all_of(svg, "rect", "gap")) == 2
    titles = [each.findtext("title", "") for each in all_of(svg, "rect", "touch")]
    assert titles[2] == "Thu 2026-09-03: line 1 no data"
    assert titles[3] == "Fri 2026-09-04: line 1 4"
    assert "2 days without data" in (svg.findtext("desc") or "")


def test_a_gap_of_one_line_only_is_no_shaded_day() -> None:
    svg = drawn(chart([1, None, 3], [1, 2, 3]))
    assert not all_of(svg, "rect", "gap")
    assert len(all_of(svg, "polyline")) == 1


@pytest.mark.parametrize("values", [[7], [7, 7, 7], [0, 0], [None, 5, None]])
def test_single_points_and_equal_values(values: list[int | None]) -> None:
    svg = drawn(chart(list(values)))
    for circle in all_of(svg, "circle"):
        assert LEFT <= float(circle.get("cx", "")) <= WIDTH - RIGHT
        assert TOP <= float(circle.get("cy", "")) <= HEIGHT - charts.BOTTOM
    assert texts(svg, "last") == [str(next(value for value in reversed(values) if value is not None))]


@pytest.mark.parametrize("found", [chart([None, None]), chart([]), chart()])
def test_no_data(found: Chart) -> None:
    svg = drawn(found)
    assert texts(svg, "nothing") == ["no data in these days"]
    assert not all_of(svg, "polyline")
    assert not found.has_gaps


def test_large_values_are_shortened_and_stay_inside() -> None:
    svg = drawn(chart([10**12, 3 * 10**12]))
    assert texts(svg, "tick") == ["0", "1,000B", "2,000B", "3,000B"]
    assert texts(svg, "last") == ["3,000B"]
    assert texts(drawn(chart([1_247_000])), "last") == ["1.2M"]
    assert texts(drawn(chart([123_456])), "last") == ["123k"]


def test_negative_values_lie_below_zero() -> None:
    svg = drawn(chart([Decimal(-50), Decimal(100)], unit=Unit.US_DOLLARS))
    assert texts(svg, "tick") == ["-$50", "0", "$50", "$100"]
    assert points(all_of(svg, "polyline")[0])[0][1] == HEIGHT - charts.BOTTOM


@pytest.mark.parametrize(
    ("span", "whole", "expected"),
    [
        ("100", False, "25"),
        ("0.005", False, "0.002"),
        ("3", True, "1"),
        ("9", True, "5"),
        ("1", True, "1"),
        ("0", False, "1"),
    ],
)
def test_steps_are_round(span: str, whole: bool, expected: str) -> None:
    assert charts.step(Decimal(span), whole=whole) == Decimal(expected)


def test_the_target_is_drawn_when_near_and_told_when_far() -> None:
    near = chart([Decimal("0.004")], unit=Unit.SHARE, target=Decimal("0.01"))
    assert all_of(drawn(near), "line", "target")
    assert near.target_note == "target 1%"
    far = chart([Decimal("0.1")], unit=Unit.SECONDS, target=Decimal("2.0"), target_of="average")
    assert not all_of(drawn(far), "line", "target")
    assert far.target_note == "target of the average 2s (above the chart)"


def test_labels_of_close_ends_do_not_overlap() -> None:
    svg = drawn(chart([10, 88], [10, 89]))
    heights = [float(each.get("y", "")) for each in all_of(svg, "text", "last")]
    assert heights[1] - heights[0] >= 13
    assert texts(svg, "last") == ["89", "88"]


def test_incomplete_days_are_rings() -> None:
    svg = drawn(chart([5, 6, 7], incomplete=frozenset({FIRST + timedelta(days=1)})))
    assert len(all_of(svg, "circle", "ring")) == 1
    last = drawn(chart([5, 6], incomplete=frozenset({FIRST + timedelta(days=1)})))
    assert not all_of(last, "circle", "dot")  # a full dot would hide that the last day is incomplete
    titles = [each.findtext("title", "") for each in all_of(svg, "rect", "touch")]
    assert [title.endswith("(incomplete)") for title in titles] == [False, True, False]


def test_a_chart_names_itself_and_escapes_its_texts() -> None:
    hostile = Chart("name", "<script>&", Unit.COUNT, (FIRST,), (Series('"><b>', (1,)),))
    svg = drawn(hostile)
    assert svg.findtext("title") == "<script>&"
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "name-title name-text"
    assert svg.findtext("desc") == '1 day from 2026-09-01 to 2026-09-01; "><b>: last 1, lowest 1, highest 1.'
    assert "<b>" not in str(charts.draw(hostile))


def test_the_same_data_always_gives_the_same_text() -> None:
    assert charts.draw(chart([1, None, 3])) == charts.draw(chart([1, None, 3]))
