"""Addresses of HTTP connections. A key may stand in the path and in the query: they belong in no error and no row."""

from __future__ import annotations

from urllib.parse import quote

from include import connections
from include.outcome import ConfigurationError

_SCHEMES = ("http", "https")


def web_url(connection_id: str) -> str:
    """Return the base URL of an HTTP connection, without a query and without a slash at its end.

    The host may be a whole address, as in Airflow's own HTTP connections. Raises ConfigurationError.
    """
    return _parts(connection_id)[0]


def page_url(connection_id: str, path: str = "") -> str:
    """Return the URL of ``path`` below an HTTP connection's base URL, with the query of both.

    The connection's query are its extras but our own (connections.WEB_EXTRAS): Airflow keeps that of a URI there.
    Raises ConfigurationError.
    """
    base, query = _parts(connection_id)
    path, _, asked = path.partition("?")
    address = f"{base}/{path.lstrip('/')}" if path else base
    query = "&".join(part for part in (asked, query) if part)
    return f"{address}?{query}" if query else address


def _parts(connection_id: str) -> tuple[str, str]:
    """The base URL and the query."""
    found = connections.details(connection_id)
    if found.kind not in (*_SCHEMES, "generic"):  # the last as Airflow's form offers no http without its provider
        raise ConfigurationError(f"the connection {connection_id} is of type {found.kind}; it must be http or https")
    given, _, rest = found.host.rpartition("://")
    scheme = given.lower() or ("https" if "https" in (found.kind, found.schema) else "http")
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"the host of the connection {connection_id} must begin with http:// or https://, if any"
        )
    rest, _, query = rest.partition("?")
    host, _, path = rest.partition("/")
    if not host:
        raise ConfigurationError(
            f"the connection {connection_id} names no host; set it, for example http://example.org"
        )
    port = f":{found.port}" if found.port else ""
    paths = (path, "" if found.schema in _SCHEMES else found.schema)
    base = "/".join(
        [f"{scheme}://{connections.host_in_url(host)}{port}", *(one.strip("/") for one in paths if one.strip("/"))]
    )
    return base, "&".join(part for part in (query, *_query(connection_id, found.extra)) if part)


def _query(connection_id: str, extra: dict[str, object]) -> list[str]:
    query = []
    for key, value in extra.items():
        if key in connections.WEB_EXTRAS or value is None:
            continue
        if not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"the extra {key} of the connection {connection_id} cannot stand in the query of its address; remove it"
            )
        query.append(f"{quote(key, safe='')}={quote(str(value), safe='')}")
    return query
