"""A real S3-speaking server (moto) in a process of its own, and a line to it that can be cut."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from demo.processes import Processes, free_port, listens
from tests.run_folder import server_folder

BUCKET = "operations"


class ObjectStorage:
    """The server: where it listens and the key that it takes."""

    def __init__(self, port: int) -> None:
        self.port, self.key, self.secret = port, "testing-key", "testing-secret"
        self.processes: Processes | None = None

    def start(self) -> None:
        """Start it, with no bucket, and wait until it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = os.environ | {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        folder = server_folder("object-storage")
        self.processes = Processes(folder / "processes.json")
        server = self.processes.start("object storage", command, log=folder / "log", environment=environment)
        self.processes.wait_until(server, lambda: listens(self.port), seconds=30)

    def stop(self) -> None:
        """Stop it; what it kept is gone."""
        if self.processes is not None:
            self.processes.stop_all()
            self.processes = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def post(self, path: str, body: bytes = b"") -> bytes:
        request = urllib.request.Request(
            self.url(path), data=body, method="POST", headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    def options(self, *, port: int | None = None, secret: str | None = None) -> dict[str, Any]:
        """The storage_options of a connection; with another ``port`` they go through a cuttable line."""
        return {
            "key": self.key,
            "secret": secret or self.secret,
            "endpoint_url": f"http://127.0.0.1:{port or self.port}",
            "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 2, "read_timeout": 5},
            "client_kwargs": {"region_name": "eu-central-1"},
            "skip_instance_cache": True,
            "use_listings_cache": False,
        }

    def connection(self, path: str = f"{BUCKET}/prefix", **changes: Any) -> str:
        """An Airflow connection as JSON."""
        extra = {"url": f"s3://{path}", "storage_options": self.options(**changes)}
        return json.dumps({"conn_type": "fs", "extra": extra})


@contextmanager
def one_empty_bucket(server: ObjectStorage) -> Iterator[fsspec.AbstractFileSystem]:
    """The server with one empty bucket, as a file system; afterwards it asks for the right key again."""
    server.post("moto-api/reset")
    files = fsspec.filesystem("s3", **server.options())
    files.mkdir(BUCKET)
    yield files
    server.post("moto-api/reset-auth", b"1000000")


def without_credentials(storage: ObjectStorage, environment: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An Airflow connection without a key, in an environment that has none either."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        environment.delenv(name, raising=False)
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    options = storage.options() | {"key": None, "secret": None}
    extra = {"url": f"s3://{BUCKET}/prefix", "storage_options": options}
    return json.dumps({"conn_type": "fs", "extra": extra})


class Line:
    """A line to a port that passes bytes on until so many went through, and then breaks every connection."""

    def __init__(self, target: int) -> None:
        self.target, self.left = target, float("inf")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                for source, sink, counted in ((here, there, True), (there, here, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                if counted:
                    self.left -= len(data)
                if self.left < 0:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def running_object_storage() -> Iterator[ObjectStorage]:
    """Start a server and stop it at the end."""
    storage = ObjectStorage(free_port())
    storage.start()
    try:
        yield storage
    finally:
        storage.stop()
