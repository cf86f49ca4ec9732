"""Acts that are postponed run after run: no single one of them is a failure, and yet somebody has to know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile

from include.warehouse import actions
from include.warehouse.actions import Action

_MOST = 100  # acts of each resource that are counted
_UNFINISHED = ("planned", "applying")


def ended(kind: str, resources: Sequence[str]) -> list[Action]:
    """Return the newest acts of a kind on each resource that ended, the newest first. Raises as ``actions.recent``."""
    return [act for act in actions.recent([kind], resources, _MOST) if act.state not in _UNFINISHED]


def in_a_row(acts: Iterable[Action], states: Collection[str] = ("postponed",)) -> tuple[int, str]:
    """Return how many of the newest acts ended in one of the states, the latest one at least, and the runs in words."""
    number = max(1, len(list(takewhile(lambda act: act.state in states, acts))))
    return number, "the latest run" if number == 1 else f"the last {number} runs"
