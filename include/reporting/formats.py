"""How figures are written, in the manner of the guide's reports: 1,247 - $2.3M - 99.95% - 1.2s - 2.3 hours.

Everything is Decimal and what is written is rounded half to even (ROUND_HALF_EVEN), which has no drift upwards. A value
that is not zero, money of less than a cent too, is never written as zero, and a share below one never as 100%: such
values get more decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

Number = Decimal | int
_LARGEST_DECIMALS = 8
_RELATIVE_FROM = 20  # from this median on, a change of a count is told in percent


class Unit(StrEnum):
    """Unit of a figure's value."""

    COUNT = "count"
    SHARE = "share"
    SECONDS = "seconds"
    DURATION = "duration in seconds"
    HOURS = "hours"
    US_DOLLARS = "US dollars"
    BYTES = "bytes"
    RATING = "rating of 5"


def rounded(value: Number, decimals: int) -> Decimal:
    """Round half to even."""
    return Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN)


def _not_quite(value: Decimal, decimals: int, *marks: Number) -> Decimal:
    """Round to at least ``decimals``, with more where the value would not stay on its side of one of ``marks``."""
    sides = [value.compare(Decimal(mark)) for mark in marks]
    for more in range(decimals, _LARGEST_DECIMALS):
        shown = rounded(value, more)
        if [shown.compare(Decimal(mark)) for mark in marks] == sides:
            return shown
    return value


def _two_digits(value: Decimal, *marks: Number) -> Decimal:
    """Round to one decimal, below 1 to two significant digits; with more for ``marks`` as above."""
    decimals = 1 if value == 0 or abs(value) >= 1 else 1 - value.adjusted()
    return _not_quite(value, min(decimals, _LARGEST_DECIMALS - 1), 0, *marks)


def count(value: Number) -> str:
    """Write a count with thousands separated; half a piece (a median of two days) keeps its decimal."""
    number = Decimal(value)
    return f"{number:,.0f}" if number == number.to_integral_value() else f"{rounded(number, 1):,}"


def percent(share: Number, *marks: Number) -> str:
    """Write a share of 0 to 1 as percent to two decimals, as the guide does: 99.95%, 0.3%; only exactly none is 0%.

    It gets more decimals where it would not be seen to be above, at or below one of ``marks``, which are shares too.
    """
    value = Decimal(share) * 100
    shown = _not_quite(value, 2, 0, 100, *(Decimal(mark) * 100 for mark in marks))
    return f"{value:.0f}%" if value in (0, 100) else f"{shown.normalize():f}%"


def limit(share: Number) -> str:
    """Write a configured share as percent without zeros at its end: 1%, 99.9%."""
    return f"{(Decimal(share) * 100).normalize():f}%"


def seconds(value: Number, *marks: Number) -> str:
    """Write seconds: 1.2s, and below one second two significant digits: 0.24s; ``marks`` as in ``percent``."""
    return f"{_two_digits(Decimal(value), *marks):f}s"


def beside(value: Number, most: Number, unit: Unit) -> tuple[str, str]:
    """Write a share, or seconds, and its limit so that one reads as above or below the other: 2.03s and 2.0s."""
    text = percent if unit is Unit.SHARE else seconds
    return text(value, most), text(most, most)


def hours(value: Number) -> str:
    """Write hours: 2.3 hours."""
    return f"{_two_digits(Decimal(value)):,f} hours"


def duration(value: Number) -> str:
    """Write a length of time given in seconds: 42 s, 12 min 30 s, 23 h 59 min 43 s."""
    total = int(rounded(value, 0))
    if total < 60:
        return f"{_not_quite(Decimal(value), 0, 0):f} s" if value else "0 s"
    parts = ((total // 3600, "h"), (total % 3600 // 60, "min"), (total % 60, "s"))
    return " ".join(f"{number} {name}" for number, name in parts if number)


def _scaled(value: Decimal, names: tuple[str, ...]) -> tuple[Decimal, str] | None:
    """Return the value in the largest unit, each 1000 times the one before, it fills at one decimal, or None."""
    for power in range(len(names), 0, -1):
        scaled = rounded(value / Decimal(1000) ** power, 1)
        if abs(scaled) >= 1 and names[power - 1]:
            return scaled, names[power - 1]
    return None


def dollars(value: Number) -> str:
    """Write US dollars: $845,300.12, from a million on $2.3M."""
    number = Decimal(value)
    sign = "-" if number < 0 else ""
    found = _scaled(abs(number), ("", "M", "B", "T")) if abs(number) >= 1_000_000 else None
    if found:
        return f"{sign}${found[0]:,}{found[1]}"
    return exact_dollars(number)


def exact_dollars(value: Number) -> str:
    """Write US dollars to the cent, however many: $2,345,678.90; only less than a cent gets more decimals: $0.004."""
    return f"{'-' if value < 0 else ''}${_not_quite(abs(Decimal(value)), 2, 0):,f}"


def size(value: Number) -> str:
    """Write bytes: 512 bytes, 1.5 MB (units of 1000)."""
    found = _scaled(Decimal(value), ("kB", "MB", "GB", "TB", "PB")) if value >= 1000 else None
    return f"{found[0]:,} {found[1]}" if found else f"{count(value)} bytes"


def rating(value: Number) -> str:
    """Write a mean rating: 4.21 of 5."""
    return f"{rounded(value, 2)} of 5"


_WRITERS: dict[Unit, Callable[[Number], str]] = {
    Unit.COUNT: count,
    Unit.SHARE: percent,
    Unit.SECONDS: seconds,
    Unit.DURATION: duration,
    Unit.HOURS: hours,
    Unit.US_DOLLARS: dollars,
    Unit.BYTES: size,
    Unit.RATING: rating,
}


def write(value: Number, unit: Unit) -> str:
    """Write a value in its unit."""
    return _WRITERS[unit](value)


def change(value: Number, median: Number, unit: Unit) -> str:
    """Write how a value differs from a median: no change, +0.02 pp (percentage points), +9.1%, -3.

    Shares change by percentage points; counts and times from a small or no median by the difference itself; ratings
    likewise; everything else in percent of the median.
    """
    difference = Decimal(value) - Decimal(median)
    if difference == 0:
        return "no change"
    sign = "+" if difference > 0 else "-"
    if unit is Unit.SHARE:
        return f"{sign}{_not_quite(abs(difference) * 100, 2, 0):f} pp"
    if unit is Unit.RATING:
        return f"{sign}{_not_quite(abs(difference), 2, 0):f}"
    small = Decimal(median) < _RELATIVE_FROM if unit is Unit.COUNT else Decimal(median) <= 0
    if small or unit is Unit.DURATION:
        return sign + write(abs(difference), unit)
    return f"{sign}{_not_quite(abs(difference) / Decimal(median) * 100, 1, 0):,f}%"
