"""A small real HTTP server whose answers a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server answers: ``statuses`` in turn, the last one for ever; delays in seconds.

    With ``together`` it answers when so many requests are there. ``bodies`` are those for JSON-RPC methods, and
    ``delays`` for so many seconds, in place of ``body`` and ``delay``.
    """

    statuses: list[int] = field(default_factory=lambda: [200])
    body: bytes = b"hello"
    bodies: dict[str, bytes] = field(default_factory=dict)
    delay: float = 0
    delays: dict[str, float] = field(default_factory=dict)
    delay_between_bytes: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    together: threading.Barrier | None = None
    port: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def web_server() -> Iterator[Behaviour]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            method = json.loads(content)["method"] if content.startswith(b'{"jsonrpc"') else ""
            body = behaviour.bodies.get(method, behaviour.body)
            behaviour.requests.append((self.command, self.path, dict(self.headers)))
            status = behaviour.statuses.pop(0) if len(behaviour.statuses) > 1 else behaviour.statuses[0]
            time.sleep(behaviour.delays.get(method, behaviour.delay))
            if behaviour.together:
                behaviour.together.wait()
            self.send_response(status)
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if behaviour.delay_between_bytes:
                        self.wfile.flush()
                        time.sleep(behaviour.delay_between_bytes)
            except OSError:
                pass  # the client has gone

        do_GET = do_POST = answer

        def log_message(self, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    behaviour.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
