"""Takes values out of query texts, tells which texts the planner may be asked about, and how a person asks it.

pg_stat_statements puts $1 in the place of values, but not in utility statements and not everywhere.
"""

from __future__ import annotations

import re

from include.platform.database import in_comment

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
    """Return the SQL that shows a person where the time of a masked query goes, as comments that wait for a session.

    Whatever a query calls, anybody may have written: it runs with the rights of whoever executes the query, and what is
    IMMUTABLE when it is planned. So it is for a session of the role that runs it anyway, as which SQL is read and
    uncommented. What may change or lock rows is planned and never executed: where the server has ``generic_plans``
    (PostgreSQL 16) with $1 as it stands. Everything else is executed in a read-only transaction, because a function may
    write. A text that is not whole gives no SQL.
    """
    text = text.rstrip("; ")
    lines = [
        f"-- Log in as a role that runs it (userid of the queryid {query_id} in pg_stat_statements): never as a "
        "superuser, nor with SET ROLE.",
        "-- What it calls runs with all that the session may, some of it even when the query is only planned.",
    ]
    if _MASK in text or text.endswith(_CUT):
        return "\n".join(
            [
                *lines,
                "-- Its text is not whole here: take it from there. EXPLAIN shows its plan; EXPLAIN (ANALYZE, BUFFERS) "
                "executes it, so never do that with one that writes.",
            ]
        )
    values = "with values in place of $1, $2 and so on" if _PARAMETER.search(text) else ""
    if not _CHANGES.search(text):
        wanted = ["BEGIN TRANSACTION READ ONLY;", f"EXPLAIN (ANALYZE, BUFFERS) {text};", "ROLLBACK;"]
        alone = ""
    else:
        alone = "the plan alone, for ANALYZE would execute it and change or lock rows"
        values = "" if generic_plans else values
        asked = f"GENERIC_PLAN, VERBOSE) {for_the_planner(text)}" if generic_plans else f"VERBOSE) {text}"
        wanted = [f"EXPLAIN ({asked};"]
    then = " ".join(filter(None, ("-- Then", values, alone)))
    return "\n".join([*lines, f"{then}:", *(f"--   {in_comment(line)}" for line in wanted)])
