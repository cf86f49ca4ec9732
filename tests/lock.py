"""Writes constraints.txt again: ``python -m tests.lock [--upgrade]`` (make lock).

Every package of tests/requirements.txt, which takes in the others, with all it depends on, for Python 3.11 and newer.
Pins that still fit stay as they are; ``--upgrade`` takes the newest of everything.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ("requirements.txt", "demo/requirements.txt", "tests/requirements.txt")
PYTHONS = ("3.11", "3.12", "3.13")


def compile_requirements(
    *options: str, requirements: str = "tests/requirements.txt"
) -> subprocess.CompletedProcess[str]:
    """Resolve a requirements file with uv; the packages stand on standard output, a failure's reason on the other."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--no-progress", "--color", "never", *options, requirements),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def main() -> int:
    """Write constraints.txt; returns the exit status."""
    done = compile_requirements("--universal", "--python-version", PYTHONS[0], "-o", "constraints.txt", *sys.argv[1:])
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return done.returncode
    print(f"constraints.txt pins {len(done.stdout.splitlines())} packages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
