"""The least-privilege roles and the databases of the embedded cluster, and the connections that lead to them."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from demo.servers import Postgres

ROLES = {
    "airflow": "owns Airflow's metadata database",
    "warehouse_owner": "owns and migrates the operations warehouse",
    "warehouse_writer": "writes the warehouse's tables",
    "warehouse_reader": "reads the warehouse's tables",
    "escrow_owner": "owns the platform's schema",
    "escrow_app": "the platform's web application",
    "operations_reader": "reads the platform through the source contract",
    "operations_maintainer": "vacuums, analyzes and prunes the platform's tables",
}
"""Every login role and what it is for. None of them is a superuser."""

EXTENSIONS = ("pg_stat_statements", "pgstattuple")
"""What the weekly review reads in the platform's database; only a superuser may create them."""


class Databases:
    """Roles and databases of one cluster. Passwords are random, made once and kept beside the cluster."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        """Keep the roles' passwords in ``folder``."""
        self.postgres = postgres
        self.file = folder / "roles.json"

    @property
    def passwords(self) -> dict[str, str]:
        """Password of each role."""
        found: dict[str, str] = json.loads(self.file.read_text())
        return found

    def create_roles(self) -> None:
        """Create the roles that are missing. Running it again changes nothing."""
        import psycopg
        from psycopg import sql

        if not self.file.exists():
            self.file.touch(mode=0o600)
            self.file.write_text(json.dumps({role: secrets.token_urlsafe(18) for role in ROLES}))
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            for role, password in self.passwords.items():
                verb = sql.SQL("ALTER" if role in known else "CREATE")
                connection.execute(
                    sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
                )
            connection.execute("GRANT pg_monitor TO operations_reader, operations_maintainer")
            # VACUUM and ANALYZE without ownership: a privilege of its own since PostgreSQL 17.
            if connection.info.server_version >= 170000:
                connection.execute("GRANT pg_maintain TO operations_maintainer")

    def create(self, name: str, owner: str, *, template: str | None = None) -> None:
        """Create a database that only its owner may connect to until granted, unless it exists."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return
            statement = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
            if template:
                statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
            connection.execute(statement)
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
            for role in ROLES:
                if role.split("_")[0] == owner.split("_")[0] or (owner == "escrow_owner" and "operations" in role):
                    connection.execute(
                        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(role))
                    )
        if owner == "escrow_owner" and not template:
            self._create_extensions(name)

    def _create_extensions(self, name: str) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.postgres.url(name)) as connection:
            connection.execute("CREATE SCHEMA extensions")
            connection.execute("GRANT USAGE ON SCHEMA extensions TO PUBLIC")
            for extension in EXTENSIONS:
                connection.execute(sql.SQL("CREATE EXTENSION {} SCHEMA extensions").format(sql.Identifier(extension)))

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, database: str, role: str) -> str:
        """Return the URL of a database for one of the roles."""
        return self.postgres.url(database, role, self.passwords[role])

    def connections(self, *, warehouse: str, escrow: str) -> dict[str, str]:
        """Return the environment variables of the Airflow connections that lead to these databases."""
        return {
            "AIRFLOW_CONN_WAREHOUSE": self.url(warehouse, "warehouse_writer"),
            "AIRFLOW_CONN_WAREHOUSE_READER": self.url(warehouse, "warehouse_reader"),
            "AIRFLOW_CONN_WAREHOUSE_OWNER": self.url(warehouse, "warehouse_owner"),
            "AIRFLOW_CONN_PLATFORM_DB": self.url(escrow, "operations_reader"),
            "AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE": self.url(escrow, "operations_maintainer"),
        }
