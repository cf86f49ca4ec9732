"""Turns a connection id into a client.

A connection is an Airflow connection; without Airflow it is the environment variable that Airflow would read too,
AIRFLOW_CONN_<ID>, as a URI or as JSON. Secrets live in connections only: nothing here prints a password.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from include.outcome import ConfigurationError, SourceUnavailable
from include.postgres_refusals import refusal
from include.settings import ROOT

if TYPE_CHECKING:
    import fsspec
    import psycopg
    from redis import Redis

CONNECTIONS = {
    "platform_db": "the platform's database, as a role that may only read the source contract",
    "platform_db_maintenance": "the platform's database, as a role that may vacuum and prune",
    "platform_redis": "the platform's Redis",
    "platform_chain": "the JSON-RPC endpoint of the platform's chain",
    "platform_web": "the platform's public web address",
    "platform_logs": "the folder of the platform's logs",
    "backups": "the folder of the platform's backups",
    "archive": "the folder or object storage that pruned rows are archived to",
    "reports": "the folder or object storage that reports are written to",
    "warehouse": "the operations warehouse, as the role that writes it",
    "warehouse_reader": "the operations warehouse, as the role that reads it",
    "warehouse_owner": "the operations warehouse, as the role that migrates it",
    "airflow_db": "Airflow's metadata database, as its owner, for its clean-up",
    "airflow_api": "Airflow's own address, with the login of a user who may read DAGs",
}
"""Every connection of the collection and what it is; docs and the set-up are checked against it."""

WEB_EXTRAS = ("api_path", "chain_id")
"""The extras of an HTTP connection that are ours; all others belong to the query of its address."""

_WITH_A_QUERY = ("platform_chain", "platform_web")
"""HTTP connections whose query goes with each request; a key may stand in it."""

_REDIS_EXTRAS = ("db", "ssl", "ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")

_OUR_OWN = ("warehouse", "airflow_db")
"""How the connections to databases begin in which only operations and Airflow may create anything."""


@dataclass(frozen=True)
class ConnectionDetails:
    """What a connection says; the password is left out of its representation."""

    connection_id: str
    kind: str
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


def details(connection_id: str) -> ConnectionDetails:
    """Look a connection up, in the environment first and then in Airflow.

    What is secret of it is masked in Airflow's logs. Raises ConfigurationError when there is none or when it cannot be
    read.
    """
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    if value := os.environ.get(variable):
        return _masked(_read(connection_id, variable, value))
    if (found := _in_airflow(connection_id)) is None:
        what = CONNECTIONS.get(connection_id, "a connection")
        raise ConfigurationError(
            f"the connection {connection_id} ({what}) is not defined; set {variable} or add it in Airflow under Admin, "
            "Connections"
        )
    return _masked(
        ConnectionDetails(
            connection_id,
            found.conn_type,
            found.host or "",
            found.port,
            found.login or "",
            found.password or "",
            found.schema or "",
            found.extra_dejson,
        )
    )


def _masked(found: ConnectionDetails) -> ConnectionDetails:
    """Have Airflow mask what must not stand in a log, as it does with connections that it reads itself."""
    if "airflow.sdk" in sys.modules:
        from airflow.sdk.log import mask_secret

        secrets = {found.password}
        if found.connection_id in _WITH_A_QUERY:
            secrets |= {str(value) for key, value in found.extra.items() if key not in WEB_EXTRAS}
        if found.connection_id == "platform_chain":  # providers have their keys in the path
            secrets |= {found.schema, found.host.rpartition("://")[2].partition("/")[2]}
        for secret in (secrets | {quote(one, safe="") for one in secrets}) - {""}:
            mask_secret(secret)
        if found.extra:
            mask_secret(found.extra)  # of which it takes what is named like a secret
    return found


def is_defined(connection_id: str) -> bool:
    """Whether a connection exists; what needs an optional one says so where it is not."""
    return bool(os.environ.get(f"AIRFLOW_CONN_{connection_id.upper()}")) or _in_airflow(connection_id) is not None


def _in_airflow(connection_id: str) -> Any:
    """Airflow's connection of this name; None where it has none, and without Airflow."""
    if "airflow" not in sys.modules:
        return None
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(connection_id)
    except AirflowNotFoundException:
        return None


def _read(connection_id: str, variable: str, value: str) -> ConnectionDetails:
    try:
        if value.lstrip().startswith("{"):
            found = json.loads(value)
            extra = found.get("extra") or {}
            return ConnectionDetails(
                connection_id,
                found["conn_type"],
                found.get("host") or "",
                int(found["port"]) if found.get("port") else None,
                found.get("login") or "",
                found.get("password") or "",
                found.get("schema") or "",
                json.loads(extra) if isinstance(extra, str) else extra,
            )
        parts = urlsplit(value)
        if not (parts.scheme and parts.netloc):
            raise ValueError
        return ConnectionDetails(
            connection_id,
            parts.scheme,
            _host(parts),
            parts.port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            unquote(parts.path.removeprefix("/")),
            dict(parse_qsl(parts.query, keep_blank_values=parts.scheme in ("http", "https"))),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            f"{variable} is neither a connection URI nor a JSON object with conn_type; correct it"
        ) from None


def _host(parts: SplitResult) -> str:
    host = unquote(parts.hostname or "")
    if "/" not in host:
        return host
    # The folder of a socket, whose case counts: ``hostname`` is in lower case.
    return unquote(parts.netloc.rpartition("@")[2].partition(":")[0])


def host_in_url(host: str) -> str:
    """Return a host, or several, as it stands in a URL: an IPv6 address in brackets, its zone after %25."""
    return ",".join(f"[{quote(one, safe=':')}]" if _is_ipv6(one) else one for one in host.split(","))


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _statement_timeout() -> timedelta | None:
    """The running task's execution timeout, so that a task that is ended leaves no query behind."""
    if "airflow" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        timeout = get_current_context()["task"].execution_timeout
    except RuntimeError:
        return None
    return timeout if isinstance(timeout, timedelta) else None


@cache
def _libpq_options() -> dict[str, str]:
    """The options that libpq knows, each with its environment variable; empty where it has none."""
    from psycopg import pq

    return {one.keyword.decode(): (one.envvar or b"").decode() for one in pq.Conninfo.get_defaults()}


def postgres_url(connection_id: str) -> str:
    """Return the libpq URL of a Postgres connection, with its password and its options.

    The folder of a socket is given as the option ``host``, where SQLAlchemy finds it too. Raises ConfigurationError,
    also for an option that libpq does not know: a misspelt one, left out, might be what was to keep the session safe.
    """
    found = details(connection_id)
    if found.kind not in ("postgres", "postgresql"):
        raise ConfigurationError(f"the connection {connection_id} is of type {found.kind}; it must be postgres")
    login = quote(found.login, safe="")
    password = f":{quote(found.password, safe='')}" if found.password else ""
    given = found.extra
    known = _libpq_options().keys() | ({"ssl"} if given.get("ssl") == "true" else set())  # as a URI may say
    if unknown := [key for key in given if key not in known]:
        raise ConfigurationError(
            f"the connection {connection_id} has the option {', '.join(unknown)}, which PostgreSQL's libpq does not "
            "know; correct its name or remove it"
        )
    host = host_in_url(found.host)
    if "/" in host:
        host, given = "", {"host": host} | given
    options = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in given.items())
    port = f":{found.port}" if found.port else ""
    return f"postgresql://{login}{password}@{host}{port}/{found.schema}" + (f"?{options}" if options else "")


def libpq_environment(url: str) -> dict[str, str]:
    """Return the environment variables by which PostgreSQL's programs connect as a libpq URL says, password included.

    The few options without a variable (keepalives, sslpassword, oauth_…) are left out.
    """
    from psycopg.conninfo import conninfo_to_dict

    variables = _libpq_options()
    return {
        variables[key]: str(value)
        for key, value in conninfo_to_dict(url).items()
        if variables.get(key) and value is not None
    }


def postgres(
    connection_id: str,
    *,
    autocommit: bool = False,
    statement_timeout: timedelta | None = None,
    connect_timeout_seconds: int | None = None,
) -> psycopg.Connection[Any]:
    """Open a Postgres connection in UTC.

    ``statement_timeout`` bounds each statement on the server; without it the running task's execution timeout does.
    ``connect_timeout_seconds`` goes before the connection's own; without both it is 10. In a database that is not our
    own the search path is pg_catalog alone, whatever the connection's options say. Raises ConfigurationError
    (undefined, an unknown option, refused credentials or rights) or SourceUnavailable (cannot be reached).
    """
    import psycopg

    found = details(connection_id)
    timeout = statement_timeout or _statement_timeout()
    settings = ["SET timezone TO 'UTC'"]
    # A bound among the connection's own options (-c statement_timeout=… or --statement-timeout=…) goes before ours.
    if timeout and "statement_timeout" not in str(found.extra.get("options", "")).replace("-", "_"):
        settings.append(f"SET statement_timeout TO {int(timeout.total_seconds() * 1000)}")
    if not connection_id.startswith(_OUR_OWN):
        # Whoever may create in a schema of the path could give a built-in function a closer match (CVE-2018-1058).
        settings.append("SET search_path TO pg_catalog")
    try:
        connection = psycopg.connect(
            postgres_url(connection_id),
            autocommit=True,
            connect_timeout=connect_timeout_seconds or found.extra.get("connect_timeout") or 10,
            application_name=found.extra.get("application_name") or f"gold-escrow-operations:{connection_id}",
        )
        # Statements, not options: a connection pooler refuses those, or ignores them without a word.
        connection.execute("; ".join(settings).encode())
        connection.autocommit = autocommit
        return connection
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        where = f"{connection_id} ({host_in_url(found.host)}:{found.port or 5432}/{found.schema})"
        if reason := refusal(str(error), found.login, found.schema):
            raise ConfigurationError(f"{where} refused the connection: {reason}") from None
        raise SourceUnavailable(f"{where} cannot be reached") from None


def redis(connection_id: str = "platform_redis", *, timeout_seconds: float = 5.0) -> Redis:
    """Return a Redis client; it connects at its first command, and tries each once.

    Raises ConfigurationError, also for an extra that it does not know: a misspelt one might be what was to encrypt.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    found = details(connection_id)
    return Redis(
        host=found.host,
        port=found.port or 6379,
        db=int(found.schema or found.extra.get("db", 0) or 0),
        username=found.login or None,
        password=found.password or None,
        **_redis_tls(found),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        # The library's own attempts would multiply the time limit by ten; a task is tried again as a whole.
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _redis_tls(found: ConnectionDetails) -> dict[str, Any]:
    """How a Redis connection is encrypted, by the extras that Airflow's Redis connection has; empty: not at all."""
    what = f"the connection {found.connection_id}"
    if unknown := [key for key in found.extra if key not in _REDIS_EXTRAS]:
        raise ConfigurationError(
            f"{what} has the extra {', '.join(unknown)}, which is none of {', '.join(_REDIS_EXTRAS)}; correct its name "
            "or remove it"
        )
    given = {key: value for key, value in found.extra.items() if key.startswith("ssl_") and value not in (None, "")}
    if found.kind != "rediss" and str(found.extra.get("ssl", "")).lower() != "true":
        if given and "ssl" not in found.extra:  # Airflow's form leaves the others there when ssl is off
            raise ConfigurationError(
                f"{what} has the extra {', '.join(given)} but not ssl; set ssl to true or to false"
            )
        return {}
    if given.get("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise ConfigurationError(f"the ssl_cert_reqs of {what} is none of required, optional and none; correct it")
    for key in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if key in given and not os.access(str(given[key]), os.R_OK):
            raise ConfigurationError(
                f"the file that {key} of {what} names cannot be read; correct its path or its rights"
            )
    if "ssl_check_hostname" in given:
        given["ssl_check_hostname"] = str(given["ssl_check_hostname"]).lower() == "true"
    return {"ssl": True, **given}


def folder(connection_id: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system and the path of a folder connection.

    The connection's extra holds ``path`` (a local folder, relative to the checkout unless absolute) or ``url`` (any
    fsspec URL, such as s3://bucket/prefix) and, for object storage, ``storage_options``. Raises ConfigurationError,
    which names the URL's protocol only: a login may stand in the rest of it.
    """
    import fsspec

    found = details(connection_id)
    if path := found.extra.get("path"):
        return fsspec.filesystem("file", auto_mkdir=True), str(ROOT / str(path))
    if url := found.extra.get("url"):
        try:
            files, path = fsspec.core.url_to_fs(str(url), **found.extra.get("storage_options", {}))
        except (ImportError, ValueError) as error:
            raise _unusable_url(connection_id, str(url), error) from None
        return files, path
    raise ConfigurationError(f'the connection {connection_id} needs an extra of {{"path": …}} or {{"url": …}}')


def _unusable_url(connection_id: str, url: str, error: Exception) -> ConfigurationError:
    """Say what is wrong with a folder's URL. A ValueError may quote any part of it, an ImportError quotes none."""
    before, separator, _ = url.partition("://")
    is_protocol = separator and re.fullmatch(r"[\w+.-]+(::[\w+.-]+)*", before)
    what = f"the connection {connection_id} cannot open its url" + (f" of the protocol {before}" if is_protocol else "")
    if isinstance(error, ImportError):
        return ConfigurationError(f"{what}: {error}; install that")
    return ConfigurationError(
        f"{what}: the protocol is not known or the url is malformed; correct it (in a login or password, signs such as "
        "/, # and @ are written as %2F, %23 and %40)"
    )
