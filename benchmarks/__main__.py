"""Measures the headline figures: ``python -m benchmarks [name]`` (make bench ONLY=name).

Prints a line per figure and writes the same to .local/bench.json. A figure that does not hold, or cannot be measured,
is said so; it is no failure. Only a name that is not known is one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

from benchmarks import (
    access_logs,
    cache_analysis,
    dag_import,
    daily_metrics,
    log_rotation,
    prune,
    restore_drill,
    task_overhead,
    vacuum,
)
from benchmarks.figures import HEADING, ROOT, Figure, not_measured

FIGURES: dict[str, Callable[[], list[Figure]]] = {
    "access_logs": access_logs.measure,
    "daily_metrics": daily_metrics.measure,
    "dag_import": dag_import.measure,
    "task_overhead": task_overhead.measure,
    "prune": prune.measure,
    "vacuum": vacuum.measure,
    "restore_drill": restore_drill.measure,
    "log_rotation": log_rotation.measure,
    "cache_analysis": cache_analysis.measure,
}
"""The figures by name, in the order in which they are measured."""


def main(arguments: Sequence[str]) -> int:
    """Measure the named figures, or all; return the exit status."""
    unknown = [name for name in arguments if name not in FIGURES]
    if unknown:
        print(f"there is no figure {unknown[0]}; there are {', '.join(FIGURES)}", file=sys.stderr)
        return 2
    print(HEADING, flush=True)
    figures: list[Figure] = []
    for name in arguments or FIGURES:
        try:
            found = FIGURES[name]()
        except Exception as error:  # a figure that fails must not hide the others
            found = [not_measured(name, "-", f"{type(error).__name__}: {error}")]
        for figure in found:
            print(figure.line(), flush=True)
        figures += found
    target = ROOT / ".local" / "bench.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps([figure.as_json() for figure in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
