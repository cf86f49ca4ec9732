"""Compares the schema objects of a restored database with those that were recorded, or with the live ones.

PostgreSQL writes some expressions anew after a dump was restored: casts move from an array to its elements, and with
them parentheses come and go. Definitions are compared without casts and without parentheses that group nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from include import connections
from include.maintenance.backups.backup_checks import Result, failed, passed, some, unknown
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import backup_facts, source
from include.platform.backup_facts import Facts
from include.platform.backup_restore import Restored

_Objects = Sequence[tuple[str, str, str]]
_PRIVILEGES = ("privileges", "default privileges")
_OF_OUR_OWN_CHECK = ("extension", "amcheck")

_TOKEN = re.compile(
    r"""[EeBbXx]?'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$   # strings, and texts of functions
      |"(?:[^"]|"")*"|[^\W\d][\w$]*|\d[\w.]*|::|\S""",
    re.S | re.X,
)
_NOT_CALLED = {
    "AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "SIMILAR", "TO", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "FROM",
    "DISTINCT", "COLLATE", "CHECK", "DEFAULT", "USING", "WHERE", "ON", "SELECT", "BY", "HAVING", "RETURN",
}  # fmt: skip
"""Words before a parenthesis that does not hold arguments."""

_FURTHER_WORDS = {"character": ("varying",), "bit": ("varying",), "double": ("precision",)}
_FIELDS = {"year", "month", "day", "hour", "minute", "second", "to"}  # of an interval
_ZONES = (["with", "time", "zone"], ["without", "time", "zone"])

_Item = str | tuple[str, tuple["_Item", ...]]
"""A token, or what stands between brackets (which are told by the opening one)."""


def check(restored: Restored, facts: Facts | None) -> Result:
    """Compare every schema object with what was recorded, or else with the live database."""
    if facts is not None and restored.at_backup is not None:
        found = restored.at_backup.catalog
    else:
        with restored.server.connect(restored.database) as connection:
            found = backup_facts.read_catalog(connection)
    if facts is not None:
        unrecorded = sorted(facts.kinds_not_recorded)
        expected, compared, passing = _comparable(facts, without(found, unrecorded))
        differences = catalog_differences(expected, compared)
        detail: dict[str, list[str]] = {"not_compared": unrecorded} if unrecorded else {}
        if changed := [f"{kind} {name}" for kind, name in facts.changed_meanwhile]:
            detail["changed_while_it_was_taken"] = changed[:50]
        if passing:
            detail["there_neither_before_nor_after_it"] = passing[:50]
        if differences:
            return failed(f"the restored schema differs: {some(differences)}", differences=differences[:50], **detail)
        return passed(objects=len(found), compared_with="recorded facts", **detail)
    try:
        with connections.postgres(source.SOURCE) as live:
            today = backup_facts.read_catalog(live)
    except (ConfigurationError, SourceUnavailable) as error:
        return unknown(f"no schema was recorded with the backup, and the live one cannot be read: {error}")
    # Without recorded roles the privileges were not restored.
    differences = catalog_differences(*(without(each, _PRIVILEGES) for each in (today, found)))
    if differences:
        return unknown(
            f"no schema was recorded with the backup, and it differs from today's live one: {some(differences)}",
            differences=differences[:50],
        )
    return passed(objects=len(found), compared_with="live database", privileges="not restored")


def _comparable(facts: Facts, found: _Objects) -> tuple[_Objects, _Objects, list[str]]:
    """What must have come back, what is compared with it, and the names of what may have come and gone in between.

    A base backup is of a moment between the two readings of the schema. What was changed may be as it was at any; it
    must be there when it was there before and after.
    """
    if facts.exact:
        return facts.catalog, found, []
    there = {one[:2]: one for one in found}
    changed, lasting = set(facts.changed_meanwhile), set(facts.there_throughout)
    expected = [one for one in facts.catalog if one[:2] not in changed]
    expected += [there.get(one[:2], one) for one in facts.catalog if one[:2] in lasting]
    wanted = {one[:2] for one in expected}
    passing = there.keys() - wanted - changed - {_OF_OUR_OWN_CHECK}
    return expected, [one for one in found if one[:2] in wanted], [f"{kind} {name}" for kind, name in sorted(passing)]


def without(objects: Iterable[tuple[str, str, str]], kinds: Collection[str]) -> list[tuple[str, str, str]]:
    """Return the objects of all other kinds."""
    return [one for one in objects if one[0] not in kinds]


def catalog_differences(expected: _Objects, found: _Objects) -> list[str]:
    """Say for each schema object that is missing, there in addition, or different.

    Definitions that differ by casts, and by parentheses that group nothing, only are the same: PostgreSQL writes them
    anew after a restore. Ownership and privileges of the scratch server's own superuser are compared like all others.
    """
    before = {(kind, name): definition for kind, name, definition in expected}
    after = {(kind, name): definition for kind, name, definition in found}
    if _OF_OUR_OWN_CHECK not in before:
        after.pop(_OF_OUR_OWN_CHECK, None)
    differences = []
    for kind, name in sorted(before.keys() | after.keys()):
        one, other = before.get((kind, name)), after.get((kind, name))
        if other is None:
            differences.append(f"{kind} {name} is missing")
        elif one is None:
            differences.append(f"{kind} {name} was not there before")
        elif one != other and meaning(one) != meaning(other):
            differences.append(f"{kind} {name} differs")
    return differences


def meaning(definition: str) -> tuple[_Item, ...]:
    """Return the tokens of a definition, nested as their parentheses, without casts and parentheses that group nothing.

    >>> meaning("(a = 'x'::text) AND (((b)::text[] IS NULL))") == meaning("(a = 'x') AND (b IS NULL)")
    True
    >>> meaning("a OR (b AND c)") == meaning("(a OR b) AND c")
    False
    """
    tokens = [match[0] for match in _TOKEN.finditer(definition)]
    items: list[_Item] = []
    place = 0
    while place < len(tokens):  # a closing bracket without an opening one stands for itself
        more, place = _items(tokens, place)
        items += [*more, *tokens[place : place + 1]]
        place += 1
    return tuple(items)


def _items(tokens: list[str], place: int) -> tuple[list[_Item], int]:
    """Return what stands from a place to the closing bracket or the end, and the place of that."""
    items: list[_Item] = []
    while place < len(tokens) and tokens[place] not in (")", "]"):
        here = tokens[place]
        if here == "::":
            place = _after_type(tokens, place + 1)
            continue
        place += 1
        if here not in ("(", "["):
            items.append(here)
            continue
        inner, place = _items(tokens, place)
        place += 1
        if here == "(":
            while len(inner) == 1 and isinstance(inner[0], tuple) and inner[0][0] == "(":
                inner = list(inner[0][1])
            if _primary(inner) and not (items and _may_be_called(items[-1])):
                items += inner
                continue
        items.append((here, tuple(inner)))
    return items, place


def _after_type(tokens: list[str], place: int) -> int:
    """Return the place after the name of a type: of several words, with a length, of an array."""

    def here() -> str:
        return tokens[place] if place < len(tokens) else ""

    def skip_brackets(opening: str) -> int:
        return _items(tokens, place + 1)[1] + 1 if here() == opening else place

    first = here()
    place += 1
    while here() == ".":
        place += 2
    if here() in _FURTHER_WORDS.get(first, ()):
        place += 1
    while first == "interval" and here() in _FIELDS:
        place += 1
    place = skip_brackets("(")
    if first in ("timestamp", "time") and tokens[place : place + 3] in _ZONES:
        place += 3
    while here() == "[":
        place = skip_brackets("[")
    return place


def _primary(items: Sequence[_Item]) -> bool:
    """Whether parentheses around the items would group nothing: a name, a literal, a call, an array, a subscript."""
    alone = True  # a word may follow
    for item in items:
        if item == ".":
            alone = True
        elif isinstance(item, tuple):
            alone = False
        elif not alone or item in _NOT_CALLED or not (item[0].isalnum() or item[0] in "_\"'$"):
            return False
        else:
            alone = False
    return bool(items)


def _may_be_called(item: _Item) -> bool:
    """Whether a parenthesis after it holds arguments."""
    return isinstance(item, str) and item not in _NOT_CALLED and (item[0].isalpha() or item[0] in '_"')
