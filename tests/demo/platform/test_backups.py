"""A backup is whole or absent, and restores to the same rows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import backups
from demo.servers import postgres_binaries
from include.outcome import SourceUnavailable

DAY = date(2026, 10, 3)


def test_a_backup_restores(new_escrow: Callable[[], str], databases: Databases, tmp_path: Path) -> None:
    name = new_escrow()
    url = databases.url(name, "escrow_owner")
    with psycopg.connect(url) as owner:
        owner.execute(
            "INSERT INTO users (email, full_name, registered_at) SELECT n, n, now() FROM generate_series(1, 50) n"
        )
    file = backups.take(url, tmp_path / "backups", DAY)
    assert file == tmp_path / "backups" / "escrow-20261003.dump"
    written = ["escrow-20261003.dump", "escrow-20261003.dump.facts.json", "globals-20261003.sql"]
    assert sorted(path.name for path in file.parent.iterdir()) == [*written, "operations-20261003.yaml"]
    copy = f"{name}_copy"
    databases.create(copy, "escrow_owner", template="template0")
    try:
        target = databases.postgres.url(copy)  # only a superuser may create the extensions
        program = str(postgres_binaries() / "pg_restore")
        subprocess.run([program, "--no-owner", "--no-acl", "--exit-on-error", "-d", target, str(file)], check=True)
        with psycopg.connect(target) as restored:
            assert restored.execute("SELECT count(*) FROM operations.users").fetchone() == (50,)
    finally:
        databases.drop(copy)
    assert backups.take(url, tmp_path / "backups", DAY) == file


def test_a_failed_backup_leaves_nothing(new_escrow: Callable[[], str], databases: Databases, tmp_path: Path) -> None:
    good = backups.take(databases.url(new_escrow(), "escrow_owner"), tmp_path, DAY)
    before = good.read_bytes()
    password = databases.passwords["escrow_owner"]
    names = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SourceUnavailable, match="cannot be reached") as caught:
        backups.take(databases.url("no_such_database", "escrow_owner"), tmp_path, DAY)
    assert password not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert good.read_bytes() == before
