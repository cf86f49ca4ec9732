"""Tells what planning a query could run for somebody who is not trusted: the planner computes what seems constant.

It calls functions for that (also those behind operators and casts, in views, defaults, checks and policies), with the
rights of whoever asks. A text is judged by the words in it, and rather refused than planned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from include.platform import database
from include.settings import settings
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

_STATEMENTS = statements(__file__)
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*")
"""A name as the server's scanner takes it without quotes; within quotes and comments it is looked for as well."""
_ESCAPED_NAME = re.compile(r'[uU]&"')
_LONGEST_NAME = 63  # bytes; the server cuts what is longer


class NotTrustedError(Exception):
    """A query that is not planned, with the reason."""


def require(connection: psycopg.Connection[Any], text: str) -> None:
    """Raise NotTrustedError when planning ``text`` could run something of a role that is not trusted, or psycopg.Error.

    Trusted are superusers, the owner of the database, those of the tables under ``maintenance.prune``, the role of the
    session, and who may become one of them. Call it right before the planner is asked, with pg_catalog as search path.
    """
    pruned = {"pruned": [rule.table for rule in settings().maintenance.prune]}
    found = connection.execute(_STATEMENTS["not_trusted"], pruned).fetchall()
    if not found:
        return
    folded = text.casefold()
    words = {word.casefold() for word in _WORD.findall(text)}
    cut = [word for word in words if len(word.encode()) > _LONGEST_NAME]
    for kind, name, owner in found:
        one = name.casefold()
        if (
            kind in ("operator", "cast")  # a text need not name them
            or one in words
            or any(word.startswith(one) for word in cut)
            or (not _WORD.fullmatch(name) and one.replace('"', '""') in folded)
            or _ESCAPED_NAME.search(text)
        ):
            raise NotTrustedError(
                f"planning it could run what the {kind} {name} leads to as the role of {database.MAINTENANCE}, and "
                f"{owner} is neither a superuser nor the owner of the database or of a pruned table; give what {owner} "
                "has made to one of those"
            )
