"""A server that answers as Airflow's REST API does (3.3.2): a login, then listings page by page for its token only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LISTINGS = {
    "/api/v2/dags": "dags",
    "/api/v2/importErrors": "import_errors",
    "/api/v2/dags/~/dagRuns": "dag_runs",
    "/api/v2/eventLogs": "event_logs",
}
MOST_ON_A_PAGE = 100


@dataclass
class Served:
    """What it lists; ``status`` other than 200 is its answer to every listing, ``refused`` names those that get 403."""

    dags: list[dict[str, Any]] = field(default_factory=list)
    import_errors: list[dict[str, Any]] = field(default_factory=list)
    dag_runs: list[dict[str, Any]] = field(default_factory=list)
    event_logs: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    refused: set[str] = field(default_factory=set)
    port: int = 0

    @property
    def connection(self) -> str:
        """The connection of a user who may log in."""
        return f"http://maintenance:right@127.0.0.1:{self.port}"


def _is_asked_for(item: dict[str, Any], query: dict[str, list[str]]) -> bool:
    """Whether an item passes the filters; what has not ended passes every beginning of its end, as in Airflow."""
    wanted = [
        item[key] in query[name] for key, name in (("state", "state"), ("event", "included_events")) if name in query
    ]
    for key, name, way in (("end_date", "end_date_gte", 1), ("end_date", "end_date_lte", -1), ("when", "after", 1)):
        if name in query:
            at = item.get(key)
            apart = (
                datetime.fromisoformat(at) - datetime.fromisoformat(query[name][0]) if at else timedelta(seconds=way)
            )
            wanted.append(way * apart >= timedelta(seconds=0))
    return all(wanted)


@contextmanager
def airflow_server() -> Iterator[Served]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            right = self.path == "/auth/token" and given == {"username": "maintenance", "password": "right"}
            self.answer(201 if right else 401, {"access_token": "token"} if right else {"detail": "the password wrong"})

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if self.headers.get("Authorization") != "Bearer token":
                self.answer(401, {"detail": "Not authenticated"})
            elif served.status != 200 or parts.path not in LISTINGS:
                self.answer(served.status if served.status != 200 else 404, {"detail": "a detail"})
            elif LISTINGS[parts.path] in served.refused:
                self.answer(403, {"detail": "Forbidden"})
            else:
                key = LISTINGS[parts.path]
                found = [item for item in getattr(served, key) if _is_asked_for(item, query)]
                first, most = int(query.get("offset", ["0"])[0]), min(int(query["limit"][0]), MOST_ON_A_PAGE)
                self.answer(200, {key: found[first : first + most], "total_entries": len(found)})

        def log_message(self, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
