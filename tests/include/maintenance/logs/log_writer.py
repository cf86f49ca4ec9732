"""A program that writes numbered lines to a log until it is stopped: ``python log_writer.py LOG COUNT_FILE MODE``.

MODE ``signal`` opens the log anew at SIGUSR1 and only then, as nginx does; ``never`` goes on in the file that it has.
At SIGTERM it notes how many lines it wrote.
"""

import os
import signal
import sys
import time
from pathlib import Path

log, count_file, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
descriptor = os.open(log, FLAGS, 0o644)
stop: list[int] = []
reopen: list[int] = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
signal.signal(signal.SIGUSR1, lambda *_: reopen.append(1))
written = 0
print("ready", flush=True)
while not stop:
    if reopen:
        reopen.clear()
        if mode == "signal":
            os.close(descriptor)
            descriptor = os.open(log, FLAGS, 0o644)
    for _ in range(20):
        os.write(descriptor, f"line {written}\n".encode())
        written += 1
    time.sleep(0.002)
count_file.write_text(str(written))
