"""The incident work without Airflow, for the shell and for a timer of the operating system.

python -m include.incidents handle
python -m include.incidents list
python -m include.incidents acknowledge INC-2026-001 [--message TEXT] [--actor NAME]
python -m include.incidents resolve INC-2026-001 --message TEXT [--actor NAME]
python -m include.incidents cancel INC-2026-001 --message TEXT [--actor NAME]
"""

from __future__ import annotations

import argparse
import sys
import time

from include.incidents import incidents
from include.outcome import ConfigurationError, SourceUnavailable

_REMEDY = "look at the DAG incident_watch, or run python -m include.incidents handle"


def _handle(given: argparse.Namespace) -> int:
    while given.every:
        try:
            _handle_once()
        except (ConfigurationError, SourceUnavailable) as error:
            print(error, file=sys.stderr)  # it goes on: the warehouse may come back, a person may correct it
        sys.stdout.flush()
        time.sleep(given.every)
    return _handle_once()


def _handle_once() -> int:
    done = incidents.drain_and_handle()
    drained, touched = done["drained"], done["incidents"]
    print(
        f"Spool: {drained['recorded']} recorded, {drained['known_already']} known already, {drained['broken']} broken."
    )
    print(f"Incidents opened or continued: {', '.join(touched) or 'none'}.")
    return 1 if drained["broken"] else 0


def _list(_: argparse.Namespace) -> int:
    found, waiting = incidents.open_incidents(), incidents.waiting()
    for one in found:
        line = (
            f"{one.incident_id}  {one.incident_class}  {one.state:<12}  {one.detected_at:%Y-%m-%d %H:%M} UTC  "
            f"seen {one.occurrences}x  {one.affected}: {one.title}"
        )
        if one.seen_again:
            line += f"; seen again since, last {one.last_seen_at:%Y-%m-%d %H:%M} UTC: {one.last_title}"
        print(line)
    if waiting.since:
        number = "1 signal waits" if waiting.signals == 1 else f"{waiting.signals} signals wait"
        then = f"nobody makes incidents of them; {_REMEDY}" if waiting.too_long else "handled within a minute"
        print(f"{number} since {waiting.since:%Y-%m-%d %H:%M} UTC: {then}.")
    elif not found:
        print("No incident is open.")
    return 1 if waiting.too_long else 0


def _acknowledge(given: argparse.Namespace) -> int:
    incidents.acknowledge(given.incident, given.actor, given.message)
    print(f"{given.incident} is acknowledged by {given.actor}.")
    return 0


def _resolve(given: argparse.Namespace) -> int:
    incidents.resolve(given.incident, given.actor, given.message)
    print(f"{given.incident} is resolved.")
    return 0


def _cancel(given: argparse.Namespace) -> int:
    incidents.cancel(given.incident, given.actor, given.message)
    print(f"{given.incident} is cancelled.")
    return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError("choose 1 to 3600 seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.incidents", description="Incidents, without Airflow.")
    commands = parser.add_subparsers(required=True)
    handle = commands.add_parser("handle", help="drain the spool and turn waiting signals into incidents")
    handle.add_argument("--every", type=_seconds, metavar="SECONDS", help="go on for ever, with this pause")
    handle.set_defaults(work=_handle)
    commands.add_parser("list", help="show the open incidents").set_defaults(work=_list)
    for name, work, needs_message, does in (
        ("acknowledge", _acknowledge, False, "take an incident"),
        ("resolve", _resolve, True, "say that an incident is over"),
        ("cancel", _cancel, True, "say that an incident was a false alarm"),
    ):
        command = commands.add_parser(name, help=does)
        command.add_argument("incident", metavar="INC-YYYY-NNN")
        command.add_argument("--message", required=needs_message, default="", help="one sentence for the timeline")
        command.add_argument("--actor", default=incidents.whoever_runs_this(), help="who does it (your login name)")
        command.set_defaults(work=work)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 1 when something could not be done, with one sentence saying why."""
    given = _parser().parse_args(arguments)
    try:
        result: int = given.work(given)
    except (ConfigurationError, SourceUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return result


if __name__ == "__main__":
    sys.exit(main())
