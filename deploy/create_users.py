"""Creates the four users of a deployment: ``python deploy/create_users.py``. Users who exist stay as they are.

Their passwords come from the environment and stand on no command line, where every user of the machine could read them.
"""

from __future__ import annotations

import os

from airflow.cli.cli_parser import get_parser

ROLES = {"admin": "Admin", "operator": "Op", "viewer": "Viewer", "maintenance": "Viewer"}


def main() -> None:
    """Create the users. Raises SystemExit when a password is not set."""
    variables = {name: f"AIRFLOW_{name.upper()}_PASSWORD" for name in ROLES}
    if missing := [variable for variable in variables.values() if not os.environ.get(variable)]:
        raise SystemExit(f"set {', '.join(missing)}")
    parser = get_parser()
    for name, role in ROLES.items():
        print(f"init: user {name} with the role {role}", flush=True)
        person = ["--firstname", name, "--lastname", role, "--email", f"{name}@operations.invalid"]
        given = ["--username", name, f"--password={os.environ[variables[name]]}", "--role", role]
        told = parser.parse_args(["users", "create", *given, *person])
        told.func(told)


if __name__ == "__main__":
    main()
