"""How long each DAG file takes to import, beyond importing airflow.sdk: the DAG processor does it again and again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.figures import PYTHON, ROOT, Figure, not_measured

LONGEST_SECONDS, TIMES = 0.3, 3
_GOAL = f"under {LONGEST_SECONDS} s"
_PROGRAM = """
import runpy, sys, time
import airflow.sdk
started = time.perf_counter()
runpy.run_path(sys.argv[1])
print("took", time.perf_counter() - started)
"""


def measure() -> list[Figure]:
    """Import every DAG file in fresh processes and take the best of three."""
    with tempfile.TemporaryDirectory(prefix="gold-escrow-bench-") as home:
        return [_figure(path, home) for path in sorted((ROOT / "dags").glob("*/*.py")) if path.stem != "__init__"]


def _figure(path: Path, home: str) -> Figure:
    name = f"dag_import {path.stem}"
    times = []
    for _ in range(TIMES):
        done = subprocess.run(
            [PYTHON, "-c", _PROGRAM, path],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": home},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return not_measured(name, _GOAL, (done.stderr.strip().splitlines() or ["it failed"])[-1])
        said = [line for line in done.stdout.splitlines() if line.startswith("took ")]
        times.append(float(said[-1].removeprefix("took ")))
    return Figure(name, f"{min(times):.3f} s", "-", "-", _GOAL, min(times) < LONGEST_SECONDS)
