"""The commands of the checkout work wherever it lies and from wherever they are called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(params=["plain", "a b  c", "it's $one's"])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkout whose set-up only says where it runs."""
    folder: Path = tmp_path / str(request.param) / "clone"
    (folder / "demo").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "demo" / "install.py").write_text(
        "import os\nprint(os.getcwd())\nprint(os.environ['PYTHONPYCACHEPREFIX'])\n"
    )
    return folder


def _make(*arguments: str | Path, folder: Path, **more: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=environment | more,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_make_finds_its_checkout_from_anywhere(checkout: Path, tmp_path: Path) -> None:
    there = [str(checkout), str(checkout / ".local" / "bytecode")]
    assert _make("install", folder=checkout) == there
    assert _make("-C", checkout, "install", folder=tmp_path) == there
    assert _make("-f", checkout / "Makefile", "install", folder=tmp_path) == there
    relative = checkout.relative_to(tmp_path)
    assert _make("-f", relative / "Makefile", "install", folder=tmp_path, CDPATH=str(tmp_path)) == there
    more = tmp_path / "more.mk"
    more.touch()
    assert _make("-f", checkout / "Makefile", "install", folder=tmp_path, MAKEFILES=str(more)) == there


def test_every_command_enters_the_checkout(checkout: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in _make("-f", checkout / "Makefile", folder=tmp_path)]
    assert {"help", "install", "demo", "test", "check-platform"} <= set(names)
    for line in _make("-f", checkout / "Makefile", "-n", *names, folder=tmp_path):
        assert shlex.split(line)[:3] == ["cd", f"{checkout}/", "&&"], line
