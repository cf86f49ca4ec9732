"""Rotates and compresses the logs of a folder as daily_maintenance does: ``python -m benchmarks.rotate_logs RUN``.

The connections of the environment lead to the folder and to a warehouse; all of it counts, the proofs too.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time, timedelta

from benchmarks.access_log_lines import DAY
from include.maintenance.logs import log_rotation

if __name__ == "__main__":
    log_rotation.rotate(sys.argv[1], False, datetime.combine(DAY + timedelta(days=1), time(3), UTC))
