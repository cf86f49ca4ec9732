"""How the values of a column travel from the server: those of a batch of rows as one value.

Integers and time stamps that cannot be null travel as numbers, each as the server stores it (big-endian). Everything
else travels as texts, as archive_lines.py describes them, joined by 1E. Numbers cost both sides a fraction of texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning.archive_lines import ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.platform.database import Column

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL counts microseconds from here
_MICROSECOND = timedelta(microseconds=1)
_UNIX = (_EPOCH - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // _MICROSECOND


@dataclass(frozen=True)
class NumberType:
    """A type whose values have numbers.

    ``sending`` is the server's function that gives them, ``dtype`` how numpy reads them, ``value`` how DuckDB makes a
    value of one, ``number`` how it makes one of a value, ``offset`` what a time stamp's text ends with (None for
    integers).
    """

    sending: str
    dtype: str
    value: str = "{}"
    number: str = "{}"
    offset: str | None = None


_TYPES = {
    "smallint": NumberType("int2send", ">i2"),
    "integer": NumberType("int4send", ">i4"),
    "bigint": NumberType("int8send", ">i8"),
    "timestamp with time zone": NumberType("timestamptz_send", ">i8", "make_timestamptz({})", "epoch_us({})", "+00"),
    "timestamp without time zone": NumberType("timestamp_send", ">i8", "make_timestamp({})", "epoch_us({})", ""),
}


def number_type(column: Column) -> NumberType | None:
    """Return the type of a column whose values travel as numbers, None for one whose values travel as texts."""
    return _TYPES.get(column.type_name) if column.not_null else None


def count(kind: NumberType, sent: bytes) -> int:
    """Return how many numbers were sent."""
    return len(numbers_of(kind, sent))


def have_plain_texts(kind: NumberType, sent: bytes) -> bool:
    """Tell whether the numbers' texts are those that every program writes: no infinity, and years of four digits."""
    if kind.offset is None:
        return True
    numbers = numbers_of(kind, sent)
    return bool(numbers.min() >= _FIRST and numbers.max() <= _LAST)


def texts(kind: NumberType, sent: bytes, positions: Sequence[int]) -> list[str]:
    """Return the values of the rows at some positions (from 0) as texts that the server reads as the same values."""
    numbers = numbers_of(kind, sent)[list(positions)].tolist()
    if kind.offset is None:
        return [str(number) for number in numbers]
    times = (_EPOCH.replace(tzinfo=None) + timedelta(microseconds=number) for number in numbers)
    return [time.isoformat(" ") + kind.offset for time in times]


def values(kind: NumberType, sent: Sequence[bytes]) -> Any:
    """Return the numbers of several batches as a numpy array; of time stamps the microseconds since 1970."""
    numbers = numbers_of(kind, b"".join(sent))
    native = numbers.astype(numbers.dtype.newbyteorder("="))
    return native if kind.offset is None else native + _UNIX


def sent(kind: NumberType, native: Any) -> bytes:
    """Return what ``values`` made a numpy array from, as one value."""
    content: bytes = (native if kind.offset is None else native - _UNIX).astype(kind.dtype).tobytes()
    return content


def equal(batches: Sequence[str] | Sequence[bytes], whole: str | bytes | None) -> bool:
    """Tell whether the values of several batches are those of one value, without a copy of either."""
    if whole is None:
        return False
    mark: Any = ROW if isinstance(whole, str) else b""
    place = 0
    for number, batch in enumerate(batches):
        before = mark if number else mark[:0]
        if not (whole.startswith(before, place) and whole.startswith(batch, place + len(before))):  # type: ignore[arg-type]
            return False
        place += len(before) + len(batch)
    return place == len(whole)


def numbers_of(kind: NumberType, sent: bytes) -> Any:
    """Return the numbers as a numpy array; of time stamps the microseconds since 2000."""
    import numpy

    return numpy.frombuffer(sent, dtype=kind.dtype)
