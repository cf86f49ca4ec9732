"""Looking at all keys of a Redis: against redis-cli --bigkeys, and the longest that one call holds others up."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import redis

from benchmarks.figures import PYTHON, CommandFailedError, Cost, Figure, cost_of, not_measured
from demo.install import TOOLS
from demo.processes import Processes
from demo.servers import Redis

KEYS, ROUNDS = 1_000_000, 3
FASTER, LONGEST_MILLISECONDS = 3, 10
_NAMES = ("cache_analysis 1 M keys", "cache_analysis longest call")
_GOALS = (f"at least {FASTER} times the peer's speed", f"at most {LONGEST_MILLISECONDS} ms")

# Strings, hashes, sets and sorted sets under five prefixes, most with an expiry: what a web application keeps.
_FILL = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
    local kind = n % 10
    if kind < 5 then redis.call('SET', 'session:' .. n, string.rep('x', 10 + n * 7 % 300), 'EX', 600 + n * 13 % 900000)
    elseif kind < 7 then redis.call('SET', 'rate:' .. n, n)
    elseif kind < 8 then redis.call('HSET', 'user:' .. n, 'name', n, 'state', 'verified')
    elseif kind < 9 then redis.call('SADD', 'tags:' .. n, 1, 2, 3)
    else redis.call('ZADD', 'board:' .. n, 1, 'a', 2, 'b') end
end
"""


def measure() -> list[Figure]:
    """Run both on the same server in turn; each one's fastest run counts, and the longest call of all of ours."""
    program = shutil.which("redis-cli") or str(TOOLS / "redis" / "redis-cli")
    if not Path(program).exists():
        return [not_measured(*both, "redis-cli is not installed") for both in zip(_NAMES, _GOALS, strict=True)]
    with tempfile.TemporaryDirectory(prefix="gold-escrow-bench-") as folder:
        processes = Processes(Path(folder) / "processes.json")
        try:
            server = Redis(processes, Path(folder)).start()
            _fill(server.port)
            return _compare(program, server.port, Path(folder) / "facts.json")
        except CommandFailedError as error:
            return [not_measured(*both, str(error)) for both in zip(_NAMES, _GOALS, strict=True)]
        finally:
            processes.stop_all()


def _fill(port: int) -> None:
    with redis.Redis(port=port, socket_timeout=60) as client:
        client.config_set("maxmemory", 0)
        for first in range(0, KEYS, 10_000):
            client.eval(_FILL, 0, str(first), str(first + 10_000))


def _compare(program: str, port: int, facts: Path) -> list[Figure]:
    ours: list[Cost] = []
    peers: list[Cost] = []
    told = []
    for _ in range(ROUNDS):
        peers.append(cost_of([program, "-p", str(port), "--bigkeys"]))
        ours.append(cost_of([PYTHON, "-m", "benchmarks.analyse_cache", str(port), facts]))
        told.append(json.loads(facts.read_text()))
    if told[-1]["visited"] != KEYS:
        raise CommandFailedError(f"the pass saw {told[-1]['visited']} of {KEYS} keys")
    mine, peer = min(cost.seconds for cost in ours), min(cost.seconds for cost in peers)
    longest = max(one["longest_server_milliseconds"] for one in told)
    waited = max(one["longest_call_milliseconds"] for one in told)
    return [
        Figure(
            _NAMES[0], f"{mine:.2f} s, {KEYS / mine / 1e3:.0f} k keys/s", f"{peer:.2f} s", f"{peer / mine:.1f}",
            _GOALS[0], peer / mine >= FASTER,
        ),
        Figure(
            _NAMES[1], f"{longest:.1f} ms, waited {waited:.1f} ms", "-", "-", _GOALS[1], longest <= LONGEST_MILLISECONDS
        ),
    ]  # fmt: skip
