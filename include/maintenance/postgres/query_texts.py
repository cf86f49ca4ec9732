"""Takes values out of query texts, and tells which texts the planner may be asked about.

pg_stat_statements puts $1 in the place of values, but not in utility statements and not everywhere.
"""

from __future__ import annotations

import re

LONGEST_TEXT = 4000
"""Characters kept of one query."""

_READ = 100_000  # characters looked at
_TOKEN = re.compile(
    r"""(?P<comment>/\*.*?(?:\*/|\Z)|--[^\n]*)
      |(?P<kept>"(?:[^"]|"")*"|\$\d+)                         # a quoted name, $1
      |\b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)                      # E'…' knows backslashes
      |(?:\b(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*(?:'|\Z)
      |\$\$.*?(?:\$\$|\Z)
      |\$(?P<tag>[A-Za-z_]\w*)\$.*?(?:\$(?P=tag)\$|\Z)
      |(?P<name>[A-Za-z_][\w$]*)                             # with digits in it
      |(?:\d[\d_]*(?:\.[\d_]*)?|\.\d+)(?:[eE][+-]?\d+)?""",
    re.S | re.X,
)
_FIRST = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*(\w*)", re.S)
_VERBS = {"select", "insert", "update", "delete", "merge", "with", "values", "table"}
_TYPED_PARAMETER = re.compile(r"\b(interval|date|timestamp|timestamptz|time|timetz)\s+(\$\d+)", re.I)


def masked(text: str) -> str:
    """Return a query's text for people: without comments and values, on one line, of a utility statement its verb.

    A comment may carry anything, such as a trace or a user, and a utility statement may carry a password.
    """
    words = _TOKEN.sub(_mask, text[:_READ]).split()
    if not can_be_planned(text):
        return " ".join(word.upper() for word in words[:2] if word.isalpha()) or "(utility statement)"
    short = " ".join(words)
    return short if len(short) <= LONGEST_TEXT else short[: LONGEST_TEXT - 1] + "…"


def _mask(found: re.Match[str]) -> str:
    if found["comment"]:
        return " "
    return found[0] if found["name"] or found["kept"] else "?"


def can_be_planned(text: str) -> bool:
    """Tell whether a text is a query (SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES or TABLE)."""
    first = _FIRST.match(text[:_READ])
    return first is not None and first[1].lower() in _VERBS


def for_the_planner(text: str) -> str:
    """Return a normalised text as it can be parsed again: ``interval $1`` becomes ``$1::interval``."""
    return _TYPED_PARAMETER.sub(r"\2::\1", text)
