"""Brings the warehouse to the newest schema with Alembic. Run as the owner, by the set-up and by an idempotent task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HERE = Path(__file__).resolve().parent
VERSIONS = HERE / "migrations" / "versions"
_LOCK = 7_041_776  # any constant: two migrations at once wait for each other


def run_sql_file(name: str) -> None:
    """Run one SQL file of the versions folder within the current migration."""
    from alembic import op

    _run_script(op.get_bind(), VERSIONS / name)


def _run_script(connection: Connection, path: Path) -> None:
    # The driver's own call takes a script of many statements and leaves its % signs alone.
    driver: Any = connection.connection.driver_connection
    driver.execute(path.read_text())


@contextmanager
def _alembic(connection_id: str) -> Iterator[tuple[Config, Connection]]:
    from alembic.config import Config
    from sqlalchemy import create_engine, pool

    url = connections.postgres_url(connection_id).replace("postgresql://", "postgresql+psycopg://", 1)
    connections.postgres(connection_id).close()  # a wrong or absent server is named in one sentence
    engine = create_engine(url, poolclass=pool.NullPool)
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        config.attributes["connection"] = connection
        yield config, connection
    engine.dispose()


def upgrade(connection_id: str = "warehouse_owner", revision: str = "head") -> list[str]:
    """Create or upgrade the schema ``ops`` and its grants, in one transaction.

    The roles warehouse_writer and warehouse_reader, where they exist, and the logins of the connections warehouse and
    warehouse_reader, where these are defined, may write and read it. Running it again changes nothing. Returns the
    names of the migrations applied. Raises ConfigurationError, also when such a login is no role of the server, or
    SourceUnavailable when the warehouse cannot be opened.
    """
    from alembic import command

    with _alembic(connection_id) as (config, connection):
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS ops")
        before = _current(connection)
        command.upgrade(config, revision)
        for setting, connection_id in (("writers", "warehouse"), ("readers", "warehouse_reader")):
            roles = "\n".join(_grantees(connection, connection_id))
            connection.exec_driver_sql("SELECT set_config(%s, %s, true)", (f"operations.{setting}", roles))
        _run_script(connection, HERE / "after_migration.sql")
        after = _current(connection)
    names = sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))
    return [name for name in names if before < name[:4] <= after]


def _grantees(connection: Connection, connection_id: str) -> list[str]:
    """Return who gets the rights that a connection's role has, but for the owner, who has all of them."""
    usual = {"warehouse": "warehouse_writer", "warehouse_reader": "warehouse_reader"}[connection_id]
    login = connections.details(connection_id).login if connections.is_defined(connection_id) else ""
    wanted = [name for name in dict.fromkeys((usual, login)) if name]
    rows = connection.exec_driver_sql("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (wanted,))
    there = {str(name) for (name,) in rows}
    if login and login not in there:
        raise ConfigurationError(
            f"the warehouse's server has no role {login}, the login of the connection {connection_id}; "
            "create the role or correct the connection, then migrate again"
        )
    owner = connection.exec_driver_sql("SELECT current_user").scalar_one()
    return [name for name in wanted if name in there and name != owner]


def downgrade(revision: str, connection_id: str = "warehouse_owner") -> None:
    """Go back to ``revision`` ("base" for nothing at all). What the dropped tables held is lost."""
    from alembic import command

    with _alembic(connection_id) as (config, _):
        command.downgrade(config, revision)


def _current(connection: Connection) -> str:
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"version_table_schema": "ops"})
    return context.get_current_revision() or ""
