"""Facts as JSON: what actions, findings and drills write of their numbers, times and days."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg.types.json import Jsonb


def json_text(value: dict[str, Any], *, fraction: Callable[[Decimal], str | float] = str) -> str:
    """Return facts as JSON: days and times in ISO 8601, whole decimals as integers, others as ``fraction`` has them.

    By default a fraction stays exact, as text. Raises TypeError for a value that is no fact.
    """

    def plain(item: object) -> object:
        if isinstance(item, (datetime, date)):
            return item.isoformat()
        if isinstance(item, Decimal):
            return int(item) if item == item.to_integral_value() else fraction(item)
        raise TypeError(f"{type(item).__name__} is not a fact that fits in JSON")

    return json.dumps(value, default=plain, ensure_ascii=False)


def jsonb(value: dict[str, Any]) -> Jsonb:
    """Return facts as a value for a column of type jsonb. Raises TypeError as ``json_text`` does, when it is sent."""
    from psycopg.types.json import Jsonb

    return Jsonb(value, dumps=json_text)
