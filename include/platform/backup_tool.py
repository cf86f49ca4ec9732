"""Drives a backup tool by the command lines of its source's settings, without a shell.

Secrets reach a tool through its environment only: the extra fields of the connection that ``secrets`` names.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import programs
from include.sections import BackupSource
from include.settings import settings

_LIST_SECONDS = 600.0
_LEAST_SECONDS = 3600.0
_MOST_SECONDS = 5 * 3600.0  # a drill has six hours
_TIMES_RECOVERY = 4
"""Verifying and restoring may take so many times ``backups.recovery_time_minutes``, within the limits above: what takes
longer has missed its target by far, or hangs."""
_END_SECONDS = 10.0

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME")


class BackupTool:
    """A tool and what it says of its backups."""

    def __init__(self, rule: BackupSource) -> None:
        """Read the tool's secrets. Raises ConfigurationError when their connection is not defined."""
        self.rule = rule
        self.secrets: dict[str, str] = {}
        if rule.secrets:
            extra = connections.details(rule.secrets).extra
            self.secrets = {str(name): str(value) for name, value in extra.items()}

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the tool: nothing of Airflow's, and its secrets."""
        return {name: os.environ[name] for name in _KEPT if name in os.environ} | self.secrets

    def backups(self) -> list[tuple[str, datetime]]:
        """Return names and times of all backups, the newest first.

        Raises MaintenanceFailed when there is none or the tool fails, ConfigurationError when it cannot be started or
        the expression ``newest`` does not fit, SourceUnavailable when it does not end in time, as the others do.
        """
        said = self._run("list_command", self.rule.list_command, _LIST_SECONDS)
        found = []
        for match in re.finditer(self.rule.newest, said, re.S):
            found.append((match["backup"], _time(match["finished"], self.rule.name)))
        if not found:
            raise MaintenanceFailed(f"there is no backup of {self.rule.name}: its list_command names none")
        return sorted(found, key=lambda one: one[1], reverse=True)

    def verify(self, backup: str) -> None:
        """Let the tool verify a backup. Raises MaintenanceFailed when it does not pass."""
        self._run("verify_command", self.rule.verify_command, _long(), backup=backup)

    def restore(self, backup: str, target: Path) -> None:
        """Let the tool restore a backup to ``target``. Raises MaintenanceFailed when it fails."""
        self._run("restore_command", self.rule.restore_command, _long(), backup=backup, target=str(target))

    def _run(self, which: str, words: Sequence[str], seconds: float, **values: str) -> str:
        command = [fill(word, values) for word in words]
        try:
            done = programs.run(command, self.environment, seconds, grace_seconds=_END_SECONDS)
        except OSError as error:
            raise ConfigurationError(
                f"the {which} of the backup source {self.rule.name} cannot be started: {command[0]}: {error.strerror}"
            ) from None
        except subprocess.TimeoutExpired:
            raise SourceUnavailable(
                f"the {which} of the backup source {self.rule.name} did not end within {seconds / 60:g} minutes"
            ) from None
        if done.returncode != 0:
            said = programs.last_line(done.stderr.strip() or done.stdout)
            raise MaintenanceFailed(
                f"the {which} of {self.rule.name} ended with status {done.returncode}: {self._masked(said[:300])}"
            )
        return done.stdout

    def _masked(self, text: str) -> str:
        for value in self.secrets.values():
            if len(value) > 3:
                text = text.replace(value, "***")
        return text


def _long() -> float:
    wished = _TIMES_RECOVERY * 60 * settings().backups.recovery_time_minutes
    return min(max(_LEAST_SECONDS, wished), _MOST_SECONDS)


def fill(word: str, values: dict[str, str]) -> str:
    """Put values in place of the {names} of a word; other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), word)


def _time(text: str, name: str) -> datetime:
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"backups.sources: newest of {name} finds the time {text[:40]!r}, which is neither seconds since 1970 nor "
            "ISO 8601"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
