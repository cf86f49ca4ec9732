"""Compares the platform's database with what the collection needs of it: ``python -m include.platform check``.

The database behind platform_db must meet the source contract; where platform_db_maintenance is defined, its role must
be allowed what maintenance does. Exits with 0 when everything holds and with 1 otherwise.
"""

from __future__ import annotations

import sys

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import contract, maintenance_rights
from include.platform.database import MAINTENANCE
from include.settings import settings


def check() -> int:
    """Print one table of all problems, or that there are none; return the exit status."""
    try:
        with connections.postgres("platform_db") as connection:
            found = contract.problems(connection)
            role, database = connection.info.user, connection.info.dbname
        pruned = [one.table for one in settings().maintenance.prune]
        with_maintenance = connections.is_defined(MAINTENANCE)
        if with_maintenance:
            with connections.postgres(MAINTENANCE) as connection:
                found += maintenance_rights.problems(connection, pruned)
    except (ConfigurationError, SourceUnavailable) as error:
        print(f"The platform cannot be checked: {error}.", file=sys.stderr)
        return 1
    if found:
        print(contract.table(found))
        print(f"\n{len(found)} problem(s) in the database {database} for the role {role}; see docs/source-contract.md.")
        return 1
    print(f"The database {database} meets the source contract for the role {role}: {len(contract.contract())} views.")
    if with_maintenance:
        pruning = f"prune {', '.join(pruned)}" if pruned else "prune nothing, as maintenance.prune says"
        print(f"The role of {MAINTENANCE} may vacuum tables and {pruning}.")
    else:
        print(f"The connection {MAINTENANCE} is not defined: what its role may do was not looked at.")
    return 0


def main() -> None:
    """Run the command given on the command line."""
    if sys.argv[1:] != ["check"]:
        sys.exit("usage: python -m include.platform check")
    sys.exit(check())


if __name__ == "__main__":
    main()
