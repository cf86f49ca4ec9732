"""The reports on the command line: python -m include.reporting show 2026-10-03 [--kind daily_user_activity]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse import reports, session
from include.window import parse_day


def show(day: str | None, kind: str | None) -> list[str]:
    """Return the stored Markdown of a day's reports (written YYYY-MM-DD), of the newest day's without one.

    ``kind`` asks for one of the two. Raises ConfigurationError when the day is not one or has no such report, and as
    ``session.transaction`` does.
    """
    key = parse_day(day).isoformat() if day else None
    with session.transaction("warehouse_reader") as connection:
        found = reports.of_day(connection, key) if key else reports.latest(connection)
    wanted = [each.markdown for each in found if kind in (None, each.kind)]
    if not wanted:
        what = f"report {kind}" if kind else "report"
        raise ConfigurationError(
            f"there is no {what} of {key} in the warehouse; run the DAG daily_reports for that day"
            if key
            else f"there is no {what} in the warehouse yet; run the DAG daily_metrics, which daily_reports follows"
        )
    return wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.reporting", description="The stored reports.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("show", help="print a day's reports as Markdown")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("day", nargs="?", help="the day, as YYYY-MM-DD")
    which.add_argument("--latest", action="store_true", help="the newest day that has reports")
    command.add_argument("--kind", choices=reports.KINDS, help="only this report")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write("\n".join(show(given.day, given.kind)))
    except (ConfigurationError, SourceUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
