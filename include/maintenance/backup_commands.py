"""Backups on the command line: ``python -m include.maintenance`` backup, backup-facts, backup-estate, verify-backup."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance.backups import backup_verification
from include.outcome import ConfigurationError
from include.platform import backups, estate_backup
from include.sections import BackupSource
from include.settings import configuration_file

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add(commands: Commands, run: argparse.ArgumentParser) -> None:
    """Declare the commands; ``run`` has the argument of those that continue a run."""
    backup = commands.add_parser("backup", help="take a backup with the facts that its verification needs")
    backup.add_argument("source", help="a source of backups.sources with the format custom, directory or base")
    backup.add_argument("connection", help="the database, as a role that may read all of it (base: replicate it)")
    backup.add_argument(
        "name", nargs="?", help="name of the backup; by default that of the source's files, with the time"
    )
    backup.add_argument("--jobs", type=int, default=1, choices=range(1, 33), metavar="1-32", help="of a directory")
    backup.add_argument("--tar", action="store_true", help="write a base backup as compressed tar files")
    backup.set_defaults(work=_backup)
    facts = commands.add_parser("backup-facts", help="record facts before, and again after, another tool's backup")
    facts.add_argument("name", help="name of the backup, as the tool lists it")
    facts.add_argument("connection", help="the database, as a role that may read all of it")
    call = facts.add_mutually_exclusive_group()
    call.add_argument("--begin", action="store_true", help="before the backup: forget what a failed one has left")
    call.add_argument("--before", metavar="NAME", help="the name that was used before, if the backup had none yet")
    facts.set_defaults(work=_facts)
    estate = commands.add_parser("backup-estate", help="back up the server's roles and the configuration of operations")
    estate.add_argument("connection", help="a database of the server, as any role that may log in")
    estate.set_defaults(work=_estate)
    verify = commands.add_parser(
        "verify-backup", parents=[run], help="restore the newest backup of a source and examine it"
    )
    verify.add_argument("source")
    verify.set_defaults(work=lambda given, _: backup_verification.verify(given.source, given.run_id))


def _backup(given: argparse.Namespace, _: Any) -> dict[str, Any]:
    url, now = _url(given.connection), datetime.now(UTC)
    _check_name(given.name)
    rule = backups.source_of(given.source)
    if rule.format == "command":
        raise ConfigurationError(f"the backups of {rule.name} are taken by its own tool; use backup-facts around it")
    name = given.name or default_name(rule, now)
    taken = backups.take(url, _folder(), name, rule.format, jobs=given.jobs, tar=given.tar)
    return {"backup": taken.name, "source": rule.name}


def _facts(given: argparse.Namespace, _: Any) -> dict[str, Any]:
    url = _url(given.connection)
    _check_name(given.name)
    backups.record_facts(url, given.name, given.before, begin=given.begin)
    return {"facts": given.name}


def _estate(given: argparse.Namespace, _: Any) -> dict[str, Any]:
    url, now = _url(given.connection), datetime.now(UTC)
    taken = estate_backup.take(url, _folder(), f"{now:%Y%m%d-%H%M%S}", configuration_file())
    return {"files": [path.name for path in taken]}


def _url(connection: str) -> str:
    """Return the URL of the database, once it is known that what is taken of it can be written."""
    _check_that_it_can_be_written()
    return connections.postgres_url(connection)


def _check_name(name: str | None) -> None:
    if name and (name.startswith(".") or "/" in name):
        raise ConfigurationError(f"{name} is no name of a backup: it begins with a dot or has a slash in it")


def _check_that_it_can_be_written() -> None:
    there = backups.folder()
    if there.is_local and Path(there.root).exists() and not os.access(there.root, os.W_OK):
        raise ConfigurationError(
            f"the folder of the connection {backups.FOLDER} can only be read here; run this where backups are written"
        )


def _folder() -> Path:
    there = backups.folder()
    if not there.is_local:
        raise ConfigurationError(
            f"the connection {backups.FOLDER} is object storage; take the backup to a folder first"
        )
    return Path(there.root)


def default_name(rule: BackupSource, now: datetime) -> str:
    """Return a name that the source's pattern matches, with the time in place of its star.

    Raises ConfigurationError when the pattern has not exactly one star.
    """
    if rule.files.count("*") != 1 or set("?[") & set(rule.files):
        raise ConfigurationError(f"the pattern {rule.files} of {rule.name} does not give a name; say the backup's name")
    return rule.files.rsplit("/", 1)[-1].replace("*", f"{now:%Y%m%d-%H%M%S}")
