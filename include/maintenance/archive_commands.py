"""The commands about archives and legal holds of ``python -m include.maintenance``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import holds, manifests, restore

if TYPE_CHECKING:
    from include.maintenance.backup_commands import Commands


def add(commands: Commands) -> None:
    """Declare the commands."""
    back = commands.add_parser("restore", help="copy an archive's rows into a table")
    back.add_argument("archive", help="an archive_id of ops.archive")
    back.add_argument("connection", help="name of a connection whose role may write or create the table")
    back.add_argument("target", help="schema.table; created without indexes when it does not exist")
    back.add_argument(
        "--as-text", action="store_true", help="in a new table: values of the platform's own types as text"
    )
    back.set_defaults(
        work=lambda given, _: restore.restore(given.archive, given.connection, given.target, as_text=given.as_text)
    )
    verify = commands.add_parser("verify-archives", help="check every file and manifest of a table's archives")
    verify.add_argument("table")
    verify.set_defaults(work=lambda given, _: manifests.verify_chain(given.table))
    hold = commands.add_parser("hold", help="place, release or list legal holds: rows and logs that are never deleted")
    acts = hold.add_subparsers(required=True)
    place = acts.add_parser("place", help="hold the rows that meet all conditions; without any, the whole table")
    place.add_argument(
        "--table",
        required=True,
        help=f"schema.table, as in maintenance.prune; or one of {', '.join(holds.HELD_AS)}",
    )
    place.add_argument("--reason", required=True, help="for example the case number")
    place.add_argument("--by", required=True, help="who places it")
    place.add_argument("--from", dest="time_from", type=_time, help="rows from this time on (ISO 8601, UTC by default)")
    place.add_argument("--until", dest="time_until", type=_time, help="rows before this time")
    place.add_argument("--key-from", help="rows from this key on")
    place.add_argument("--key-to", help="rows up to this key, itself included")
    place.add_argument("--column", help="rows with a value in this column, one of the rule's hold_columns")
    place.add_argument("--value", help="the value")
    place.set_defaults(work=_place)
    release = acts.add_parser("release", help="end a hold")
    release.add_argument("legal_hold", type=int)
    release.add_argument("--by", required=True, help="who ends it")
    release.set_defaults(work=lambda given, _: holds.release(given.legal_hold, given.by))
    acts.add_parser("list", help="the holds in force").set_defaults(work=lambda *_: holds.listed())


def _place(given: argparse.Namespace, _: Any) -> dict[str, Any]:
    return holds.place(
        given.table,
        given.reason,
        given.by,
        time_from=given.time_from,
        time_until=given.time_until,
        key_from=given.key_from,
        key_to=given.key_to,
        column=given.column,
        value=given.value,
    )


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write it as 2026-10-01 or 2026-10-01T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
