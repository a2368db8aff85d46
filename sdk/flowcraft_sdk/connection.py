"""Where the deployment is, and how redis-py is set up: time-outs, retries and pool sizes are chosen, never its defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError, FlowcraftError
from flowcraft_sdk.protocol.keys import DEFAULT_NAMESPACE

DEFAULT_URL = "redis://localhost:6379/0"
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class ClientSettings:
    """How the client talks to Redis; times in seconds.

    Attributes:
        socket_timeout: after which a command counts as unanswered.
        retries: how often a command is sent again after a broken connection; every call bears it.
        max_connections: of the command pool.
        max_value: bytes that one value of a start context may have.
    """

    socket_timeout: float = 5.0
    connect_timeout: float = 5.0
    retries: int = 3
    max_connections: int = 1000
    max_value: int = 16 * 1024 * 1024


def resolve_url(url: str | None) -> str:
    """The address: the argument, `FLOWCRAFT_REDIS_URL`, `REDIS_URL` or the default.

    Raises:
        ConfigurationError: it is none that redis-py knows.
    """
    found = url or os.environ.get("FLOWCRAFT_REDIS_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL
    if found.startswith("valkey"):
        found = "redis" + found.removeprefix("valkey")
    if urlsplit(found).scheme not in SCHEMES:
        raise ConfigurationError(
            f"expected an address such as redis://host:6379/0, rediss:// or unix://, got {hidden(found)}"
        )
    return found


def resolve_namespace(namespace: str | None) -> str:
    """The deployment's name: the argument, `FLOWCRAFT_NAMESPACE` or the default."""
    return namespace or os.environ.get("FLOWCRAFT_NAMESPACE") or DEFAULT_NAMESPACE


def hidden(url: str) -> str:
    """An address without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def pool_options(settings: ClientSettings) -> dict[str, Any]:
    """Options that the sync and the async pools share, without the retry policy."""
    return {
        "socket_timeout": settings.socket_timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "max_connections": settings.max_connections,
    }


def sync_client(url: str, settings: ClientSettings) -> "redis.Redis":
    """A client for commands; one that is re-sent after a lost reply is applied once, by its token."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), settings.retries)
    return redis.Redis.from_url(url, retry=retry, **pool_options(settings))


def translated(error: Exception, operation: str, url: str, writes: bool) -> FlowcraftError:
    """A redis error as one of ours; the password never shows."""
    if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.NoPermissionError):
        return ConfigurationError(f"Redis at {hidden(url)} refuses this user: {error}")
    lost = isinstance(error, redis.exceptions.TimeoutError) or "closed" in str(error).lower()
    return BackendUnavailableError(
        f"Redis at {hidden(url)} cannot serve {operation}: {error}", operation=operation, maybe_applied=writes and lost
    )


def read_server_file(path: str, text: str) -> tuple[str, str]:
    """Address and namespace that a `flowcraft.yaml` lays down; of an embedded store, the running one's.

    Raises:
        ConfigurationError: the file cannot be used, or the embedded store is not running.
    """
    import yaml

    from flowcraft_sdk.server_file import embedded_url, interpolate

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: {str(error).splitlines()[0]}") from None
    section: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    settings = section.get("redis") or {}
    namespace = os.environ.get("FLOWCRAFT__NAME") or interpolate(str(section.get("name") or DEFAULT_NAMESPACE), path)
    url = os.environ.get("FLOWCRAFT__REDIS__URL") or interpolate(str(settings.get("url") or "embedded:"), path)
    if url.startswith("embedded:"):
        data_dir = os.environ.get("FLOWCRAFT__REDIS__DATADIR") or str(settings.get("dataDir") or ".flowcraft/data")
        url = embedded_url(path, interpolate(data_dir, path))
    return url, namespace
