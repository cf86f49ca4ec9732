"""Writes a day's access log of an escrow platform: ``python -m benchmarks.access_log_lines LINES FILE``.

50,000 client addresses with a browser each (60 kinds), 50,000 transactions and users; pages, API calls, static files
and health probes; response times with a long tail. The same number of lines always gives the same file.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

DAY = date(2026, 10, 3)
_BLOCK = 100_000
_REQUESTS = (
    ("GET / HTTP/1.1", 0.22),
    ("GET /pricing HTTP/1.1", 0.05),
    ("GET /login HTTP/1.1", 0.05),
    ("POST /api/session HTTP/1.1", 0.04),
    ("GET /static/app.3f9a1c.js HTTP/1.1", 0.10),
    ("GET /static/style.css HTTP/1.1", 0.08),
    ("GET /api/transactions?page={n} HTTP/1.1", 0.12),
    ("GET /api/transactions/{n} HTTP/1.1", 0.16),
    ("POST /api/transactions/{n}/release HTTP/1.1", 0.03),
    ("GET /api/users/{n}/profile HTTP/1.1", 0.08),
    ("GET /api/chain/0x{n:064x} HTTP/1.1", 0.02),
    ("GET /health HTTP/1.1", 0.05),
)
_STATUS = ((200, 0.90), (304, 0.05), (404, 0.03), (401, 0.01), (500, 0.005), (502, 0.005))


def write(lines: int, path: Path) -> None:
    """Write ``lines`` lines, spread evenly over DAY in UTC; the file was last written when the day ended."""
    import numpy as np

    random = np.random.default_rng(7)
    addresses = [".".join(map(str, parts)) for parts in random.integers(1, 255, (50_000, 4)).tolist()]
    agents = [
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
        for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
        for version in range(110, 130)
    ]
    with path.open("w", encoding="ascii") as file:
        for first in range(0, lines, _BLOCK):
            count = min(_BLOCK, lines - first)
            seconds_of_day = np.arange(first, first + count) * 86400 // lines
            columns = zip(
                random.integers(0, len(addresses), count).tolist(),
                seconds_of_day.tolist(),
                random.choice(len(_REQUESTS), count, p=[share for _, share in _REQUESTS]).tolist(),
                random.integers(1, 50_000, count).tolist(),
                random.choice([s for s, _ in _STATUS], count, p=[share for _, share in _STATUS]).tolist(),
                random.integers(100, 50_000, count).tolist(),
                random.lognormal(-2, 1, count).round(3).tolist(),
                strict=True,
            )
            file.writelines(
                f"{addresses[address]} - - [{DAY:%d/%b/%Y}:{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"  # noqa: E501
                f' +0000] "{_REQUESTS[request][0].format(n=number)}" {status} {size} "https://gold-escrow.example/" '
                f'"{agents[address % len(agents)]}" {seconds:.3f}\n'
                for address, second, request, number, status, size, seconds in columns
            )
    ended = (datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) + timedelta(days=1)).timestamp()
    os.utime(path, (ended, ended))


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
