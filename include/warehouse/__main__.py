"""Migrates the warehouse, as its owner (the connection warehouse_owner).

python -m include.warehouse migrate
python -m include.warehouse downgrade REVISION --yes     (drops what newer migrations made, with what it holds)
"""

from __future__ import annotations

import argparse
import sys

from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse import migrate


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.warehouse", description="Migrations of the warehouse.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="bring the schema to the newest migration; again changes nothing")
    downgrade = commands.add_parser("downgrade", help="go back to a migration; what newer ones made is dropped")
    downgrade.add_argument("revision", help="number of the migration to go back to, or base for none")
    downgrade.add_argument("--yes", action="store_true", help="drop the newer tables with what they hold")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 1 when it could not be done, with one sentence saying why."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "migrate":
            applied = migrate.upgrade()
            print(f"Applied: {', '.join(applied)}." if applied else "The warehouse is at the newest migration.")
            return 0
        known = sorted(path.stem[:4] for path in migrate.VERSIONS.glob("[0-9]*.py"))
        if given.revision not in ("base", *known):
            raise ConfigurationError(
                f"there is no migration {given.revision}; choose base or one of {', '.join(known)}"
            )
        if not given.yes:
            raise ConfigurationError(
                f"going back to {given.revision} drops newer tables and their rows; dump the warehouse, then add --yes"
            )
        migrate.downgrade(given.revision)
    except (ConfigurationError, SourceUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The warehouse is at {given.revision}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
