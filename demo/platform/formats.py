"""The lines of the platform's logs: nginx's combined access format plus the request time, and nginx's error format."""

from __future__ import annotations

from datetime import datetime

_FAILURES = {
    502: "connect() failed (111: Connection refused) while connecting to upstream",
    503: "no live upstreams while connecting to upstream",
    504: "upstream timed out (110: Connection timed out) while reading response header from upstream",
}
HOST = "gold-escrow.example"
UPSTREAM = "http://127.0.0.1:8000"


def access_line(
    address: str, local_time: str, request: str, status: int, size: int, referer: str, agent: str, seconds: str
) -> str:
    """Return one access line: $remote_addr - $remote_user [$time_local] "$request" ... $request_time.

    ``request`` is method and target, ``seconds`` the request time with three decimals.
    """
    return f'{address} - - [{local_time}] "{request} HTTP/1.1" {status} {size} "{referer}" "{agent}" {seconds}\n'


def upstream_failure(status: int) -> str:
    """Return what nginx says when it answers with 502, 503 or 504."""
    return _FAILURES[status]


def error_line(
    moment: datetime, connection: int, message: str, client: str, request: str, upstream: str = UPSTREAM
) -> str:
    """Return one line of error.log; ``moment`` is written in its own time zone, ``request`` is method and target."""
    target = request.split(" ")[1]
    return (
        f"{moment:%Y/%m/%d %H:%M:%S} [error] 123#0: *{connection} {message}, client: {client}, server: _, "
        f'request: "{request} HTTP/1.1", upstream: "{upstream}{target}", host: "{HOST}"\n'
    )


def escaped(text: str) -> str:
    """Return a text as nginx writes it between quotes: quotes, backslashes and unprintable bytes as hexadecimal."""
    return "".join(
        character if 32 <= ord(character) < 127 and character not in '"\\' else
        "".join(f"\\x{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in text
    )  # fmt: skip
