"""What is backed up beside the databases must be new enough, stand by itself, and touch nothing of production."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from include.maintenance.backups import estate
from include.platform import estate_backup
from include.platform.backup_restore import Restored
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import DEFAULT_FILE, settings

HOUR = 3600


@pytest.fixture
def folder(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of backups, and all settings as they are shipped."""
    folder = tmp_path / "backups"
    folder.mkdir(exist_ok=True)
    environment.setenv("OPERATIONS__RESTORATION__GLOBALS", "globals-*.sql")
    environment.setenv("OPERATIONS__RESTORATION__CONFIGURATION", "operations-*.yaml")
    settings.cache_clear()
    yield folder
    settings.cache_clear()


@contextmanager
def _empty_server() -> Iterator[ScratchServer]:
    """A server of PostgreSQL 18 that runs and holds nothing."""
    with scratch_place("test") as place:
        server = new_server(place, "server", 18)
        server.initialise()
        yield server.start()


@pytest.fixture
def server() -> Iterator[ScratchServer]:
    with _empty_server() as server:
        yield server


def written(folder: Path, hours_ago: float = 0, **sections: Any) -> str:
    """A copy of the configuration with these sections, as the newest of the folder; its name."""
    path = folder / f"operations-{len(list(folder.iterdir())):03}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(DEFAULT_FILE.read_text()) | sections))
    at = time.time() - hours_ago * HOUR
    os.utime(path, (at, at))
    return path.name


def test_a_configuration_stands_by_itself(folder: Path, tmp_path: Path) -> None:
    name = written(folder)
    assert estate.restore_configuration(tmp_path).detail["file"] == name
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    name = written(folder, maintenance={})
    result = estate.restore_configuration(tmp_path)
    assert result.outcome.value == "failed", "what the file in use has does not fill the gaps"
    assert f"{name} is no configuration that works: maintenance." in result.reason
    name = written(folder, restoration={"globals": content["restoration"]["globals"]})
    result = estate.restore_configuration(tmp_path)
    assert result.reason == f"{name} is no configuration that works: restoration.configuration: Field required", (
        "nor does the environment"
    )


def test_a_configuration_of_long_ago_is_no_backup(folder: Path, tmp_path: Path) -> None:
    name = written(folder, hours_ago=27)
    result = estate.restore_configuration(tmp_path)
    assert result.outcome.value == "failed"
    assert result.reason == f"{name} is the newest by its name and was written 27.0 hours ago; the target is 26"
    path = folder / written(folder, hours_ago=27)
    path.rename(tmp_path / "kept.yaml")
    path.symlink_to(tmp_path / "kept.yaml")
    result = estate.restore_configuration(tmp_path)
    assert "was written 27.0 hours ago" in result.reason, "a link is as old as what it leads to"
    written(folder, hours_ago=25)
    result = estate.restore_configuration(tmp_path)
    assert result.outcome.value == "passed"
    assert result.detail["age_hours"] == pytest.approx(25, abs=0.1)


def test_the_age_of_a_file_from_the_future_is_not_known(folder: Path, tmp_path: Path) -> None:
    written(folder, hours_ago=-1 / 60)
    assert estate.restore_configuration(tmp_path).outcome.value == "passed", "clocks differ by a little"
    name = written(folder, hours_ago=-3)
    result = estate.restore_configuration(tmp_path)
    assert result.outcome.value == "unknown"
    assert result.reason.startswith(f"{name} bears the time ")
    assert " minutes ahead of this machine's clock; set the clocks" in result.reason


def test_nothing_is_made_in_the_folder_of_a_tablespace(folder: Path, server: ScratchServer) -> None:
    production = server.place.folder / "production; disk"  # writable here, as on a worker that shares the disk
    production.mkdir()
    server.place.own(production)
    with server.connect() as connection:
        connection.execute("CREATE ROLE keeper; CREATE ROLE reader")
        connection.execute(f"CREATE TABLESPACE \"fast; ones\" OWNER keeper LOCATION '{production}'".encode())
        connection.execute("COMMENT ON TABLESPACE \"fast; ones\" IS 'it''s; fast'")
        connection.execute('GRANT CREATE ON TABLESPACE "fast; ones" TO reader')
        connection.execute('ALTER TABLESPACE "fast; ones" SET (random_page_cost = 1.1)')
        connection.execute("ALTER ROLE reader SET default_tablespace = 'fast; ones'")
    url = f"postgresql://postgres@/postgres?host={server.sockets}&port=5432"
    roles, _ = estate_backup.take(url, folder, "20261001", DEFAULT_FILE)
    assert "CREATE TABLESPACE" in roles.read_text(), "it is needed to recover"
    before = list(production.iterdir())
    with _empty_server() as empty:
        result = estate.restore_globals(empty, empty.place.folder)
        assert (result.outcome.value, result.reason) == ("passed", "")
        assert result.detail["roles"] == 3
        assert result.detail["statements_of_tablespaces_left_out"] >= 4
        with empty.connect() as connection:
            row = connection.execute("SELECT count(*) FROM pg_tablespace").fetchone()
            assert row == (2,), "only those that every server has"
    assert list(production.iterdir()) == before

    at = time.time() - 400 * 24 * HOUR
    os.utime(roles, (at, at))
    with _empty_server() as empty:
        result = estate.restore_globals(empty, empty.place.folder)
    assert result.outcome.value == "failed"
    assert "was written 9600.0 hours ago; the target is 26" in result.reason


def test_a_dump_of_roles_runs_no_program(folder: Path, server: ScratchServer, tmp_path: Path) -> None:
    made = server.folder / "made"
    globals_ = folder / "globals-1.sql"
    globals_.write_text(f"CREATE ROLE keeper;\n\\! touch {made}\nCREATE ROLE reader;\n")
    result = estate.restore_globals(server, tmp_path)
    assert (result.outcome.value, made.exists()) == ("failed", False)
    assert result.reason == 'globals-1.sql could not be run: syntax error at or near "\\"'
    globals_.write_text(f"CREATE ROLE keeper;\nSELECT 1 \\g | touch {made}\n")
    result = estate.restore_globals(server, tmp_path)
    assert (result.outcome.value, made.exists()) == ("failed", False)
    with server.connect() as connection:
        connection.execute('CREATE ROLE "the ""keeper"""')
    globals_.write_text(
        "\\restrict cA7\n\nSET client_encoding = 'UTF8';\nCREATE ROLE postgres;\n"
        'ALTER ROLE postgres WITH SUPERUSER LOGIN;\nCREATE ROLE "the ""keeper""";\nCREATE ROLE reader;\n'
        "COMMENT ON ROLE reader IS E'a \\\\ b';\n\\connect postgres\n"
        'GRANT "the ""keeper""" TO reader;\n\n\\unrestrict cA7\n'
    )
    result = estate.restore_globals(server, tmp_path)
    assert (result.outcome.value, result.reason, result.detail["roles"]) == ("passed", "", 3)


@pytest.mark.parametrize("quotes", [88, 89, 20_000])
def test_what_anybody_may_set_is_no_statement(folder: Path, server: ScratchServer, quotes: int) -> None:
    value = "x;\nCREATE ROLE ghost;\nDROP TABLESPACE " + "'" * quotes + '"\\\n;GRANT CREATE ON TABLESPACE t TO u;'
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE clerk; ALTER ROLE clerk SET application_name = {}").format(value))
        connection.execute(sql.SQL("COMMENT ON ROLE clerk IS {}").format(value))
    url = f"postgresql://postgres@/postgres?host={server.sockets}&port=5432"
    estate_backup.take(url, folder, "20261001", DEFAULT_FILE)
    with _empty_server() as empty:
        result = estate.restore_globals(empty, empty.place.folder)
        assert (result.outcome.value, result.reason) == ("passed", "")
        assert (result.detail["roles"], result.detail["statements_of_tablespaces_left_out"]) == (2, 0)
        with empty.connect() as connection:
            setting = connection.execute("SELECT setconfig[1] FROM pg_db_role_setting").fetchone()
            assert setting == (f"application_name={value}",)
            comment = connection.execute("SELECT shobj_description('clerk'::regrole, 'pg_authid')").fetchone()
            assert comment == (value,)


def test_the_servers_own_configuration_is_not_taken_for_granted(server: ScratchServer) -> None:
    result = estate.server_configuration(Restored(server, "postgres"))
    assert result.outcome.value == "not_applicable"
    assert result.reason.startswith("postgresql.conf and pg_hba.conf of the server are not part of the backup")
    cluster = Restored(server, "postgres", ["postgres"])
    assert estate.server_configuration(cluster).outcome.value == "passed"
    (server.data / "pg_hba.conf").unlink()
    result = estate.server_configuration(cluster)
    assert result.reason.startswith("pg_hba.conf of the server")
