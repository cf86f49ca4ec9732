"""Tells what of PostgreSQL's refusals of a connection a person must mend, and how, from what passes by itself."""

from __future__ import annotations

import re

# Refusals of PostgreSQL and of PgBouncer in which a person must act. libpq hands no SQLSTATE of them on, only the text.
_REFUSALS = (
    (
        r"(invalid|bad) (.* )?value|channel binding|method requirement|SSL was required|certificate (file|verify)"
        r"|does not match host name|private key file|valid client certificate|weak sslmode|invalid port number"
        r"|unrecognized configuration parameter|permission denied to set parameter|parameter .* cannot be ",
        "one of its options, sslmode or the like, cannot be met ({said}); correct it or the server",
    ),
    (
        r"unsupported startup parameter",
        "the connection pooler in front of it admits no such startup parameter ({said}); remove it from the "
        "connection, or name it in the pooler's ignore_startup_parameters",
    ),
    (
        r"authentication failed|no password supplied|does not exist|no such (database|user)",
        "its login, password or database is wrong",
    ),
    (
        r"permission denied for database",
        "its role lacks the privilege CONNECT; run GRANT CONNECT ON DATABASE {database} TO {role}",
    ),
    (r"is not permitted to log in", "its role may not log in; run ALTER ROLE {role} LOGIN"),
    # The last: what was refused over SSL for another reason is tried again without it, which often has no entry.
    (
        r"pg_hba\.conf",
        "no entry of the server's pg_hba.conf admits it; add one for the database {database}, the role {role} and "
        "this machine's address, and run SELECT pg_reload_conf()",
    ),
)


def refusal(text: str, role: str, database: str) -> str | None:
    """Return why a server, or the pooler in front of it, refuses a connection and the remedy; ``text`` is libpq's.

    None when it does not, or for a while only. ``role`` and ``database`` are the connection's, empty where it has none.
    """
    role, database = (
        '"' + name.replace('"', '""') + '"' if name else what
        for name, what in ((role, "<its role>"), (database or role, "<its database>"))
    )
    for pattern, reason in _REFUSALS:
        if re.search(pattern, text):
            said = re.sub(r"^(connection (failed|is bad): )?(connection to .*? failed: )?", "", text.partition("\n")[0])
            return reason.format(role=role, database=database, said=said)
    return None
