"""Stands before a real Redis and answers some of what it is asked as its relatives and managed services do."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass
class Relative:
    """Fields of INFO that it does ``not_tell``, what it ``refuses`` by command (in Redis's words), how far away it is.

    ``seconds`` is the round trip that is added to each command.
    """

    port: int
    not_told: set[str] = field(default_factory=set)
    refuses: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def serve(self, client: socket.socket, upstream: int) -> None:
        with (
            suppress(OSError, EOFError),
            client,
            socket.create_connection(("127.0.0.1", upstream)) as server,
            client.makefile("rb") as asked,
            server.makefile("rb") as told,
        ):
            while True:
                request = _value(asked)
                words = [part.decode(errors="replace").upper() for part in request.split(b"\r\n")[2::2]]
                name = next((name for name in self.refuses if name.split() == words[: len(name.split())]), None)
                time.sleep(self.seconds)
                if name is not None:
                    client.sendall(f"-{self.refuses[name]}\r\n".encode())
                    continue
                server.sendall(request)
                answer = _value(told)
                client.sendall(self._info(answer) if words[0] == "INFO" else answer)

    def _info(self, answer: bytes) -> bytes:
        head, text = answer.split(b"\r\n", 1)
        if not text:
            return answer
        kept = [line for line in text[:-2].split(b"\r\n") if line.split(b":")[0].decode() not in self.not_told]
        body = b"\r\n".join(kept)
        return head[:1] + str(len(body)).encode() + b"\r\n" + body + b"\r\n"


def _value(stream: BinaryIO) -> bytes:
    """One value as it stands in the protocol."""
    line = stream.readline()
    if not line:
        raise EOFError
    kind, rest = line[:1], line[1:].strip()
    if kind in b"$=!" and rest != b"-1":
        return line + stream.read(int(rest) + 2)
    if kind in b"*~>" and rest != b"-1":
        return line + b"".join(_value(stream) for _ in range(int(rest)))
    if kind in b"%|":
        return line + b"".join(_value(stream) for _ in range(2 * int(rest)))
    return line


@contextmanager
def relative(upstream: int) -> Iterator[Relative]:
    """A relative of the Redis that listens on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Relative(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=found.serve, args=(client, upstream), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)
