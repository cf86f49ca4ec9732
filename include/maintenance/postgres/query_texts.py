"""Takes values out of query texts, tells which texts the planner may be asked about, and how a person asks it.

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
_CHANGES = re.compile(r"\b(?:insert|update|delete|merge|into|share)\b", re.I)  # also WITH … AS (DELETE …), FOR UPDATE
_PARAMETER = re.compile(r"\$\d")
_MASK, _CUT = "?", "…"
_TYPED_PARAMETER = re.compile(r"\b(interval|date|timestamp|timestamptz|time|timetz)\s+(\$\d+)", re.I)


def masked(text: str) -> str:
    """Return a query's text for people: without comments and values, on one line, of a utility statement its verb.

    A comment may carry anything, such as a trace or a user, and a utility statement may carry a password.
    """
    words = without_values(text).split()
    if not can_be_planned(text):
        return " ".join(word.upper() for word in words[:2] if word.isalpha()) or "(utility statement)"
    short = " ".join(words)
    return short if len(short) <= LONGEST_TEXT else short[: LONGEST_TEXT - 1] + _CUT


def without_values(text: str) -> str:
    """Return SQL, or an expression as EXPLAIN writes it, without comments and with a sign in place of each value."""
    return _TOKEN.sub(_mask, text[:_READ])


def _mask(found: re.Match[str]) -> str:
    if found["comment"]:
        return " "
    return found[0] if found["name"] or found["kept"] else _MASK


def can_be_planned(text: str) -> bool:
    """Tell whether a text is a query (SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES or TABLE)."""
    first = _FIRST.match(text[:_READ])
    return first is not None and first[1].lower() in _VERBS


def for_the_planner(text: str) -> str:
    """Return a normalised text as it can be parsed again: ``interval $1`` becomes ``$1::interval``."""
    return _TYPED_PARAMETER.sub(r"\2::\1", text)


def to_see_why(text: str, query_id: int, *, generic_plans: bool) -> str:
    """Return the SQL that shows a person where the time of a masked query goes, and that changes nothing.

    What may change or lock rows is planned and never executed: where the server has ``generic_plans`` (PostgreSQL 16)
    with $1 as it stands. Everything else is executed in a read-only transaction, because a function may write. A text
    that is not whole gives no SQL but words, as a comment.
    """
    text = text.rstrip("; ")
    if _MASK in text or text.endswith(_CUT):
        return (
            f"-- Its text is not whole here: take it from pg_stat_statements, where its queryid is {query_id}.\n"
            "-- EXPLAIN shows its plan; EXPLAIN (ANALYZE, BUFFERS) executes it, so never do that with one that writes."
        )
    values = "with values in place of $1, $2 and so on" if _PARAMETER.search(text) else ""
    if not _CHANGES.search(text):
        comment = f"  -- {values}" if values else ""
        return f"BEGIN TRANSACTION READ ONLY;\nEXPLAIN (ANALYZE, BUFFERS) {text};{comment}\nROLLBACK;"
    alone = "the plan alone: with ANALYZE it would be executed and change or lock rows"
    if generic_plans:
        return f"EXPLAIN (GENERIC_PLAN, VERBOSE) {for_the_planner(text)};  -- {alone}"
    return f"EXPLAIN (VERBOSE) {text};  -- {'; '.join(filter(None, (values, alone)))}"
