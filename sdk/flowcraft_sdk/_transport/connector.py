"""How redis-py is set up: time-outs, retries and pool sizes are chosen, never its defaults; its errors become ours."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowcraft_sdk._operations.effects import Batch, Command
from flowcraft_sdk._transport.address import (
    AddressError,
    checked_address,
    cluster_address,
    sentinel_address,
    shown_if_harmless,
)
from flowcraft_sdk._transport.cluster import ClusterAddress, Place, Topology
from flowcraft_sdk._transport.cluster_client import AsyncClusterClient, ClusterClient
from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    ConfigurationError,
    ForeignKeyError,
    RunBrokenError,
)
from flowcraft_sdk.protocol.keys import DEFAULT_NAMESPACE, type_of_key
from flowcraft_sdk.protocol.script_call import ScriptCall

DEFAULT_URL = "redis://localhost:6379/0"
URL_VARIABLES = ("FLOWCRAFT_REDIS_URL", "REDIS_URL")
"""Variables with the address of Redis, the one that counts first."""

NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a server takes as `name`. No brace: what stands in braces in a key decides where Redis Cluster keeps it."""

SENTINEL_TIMEOUT = 5.0
"""Seconds within which a Sentinel has to answer where nothing else says so."""

LOST_FOR_GOOD = (
    redis.exceptions.ResponseError,
    redis.exceptions.AuthenticationError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.DataError,
)
"""Answers of Redis that a further attempt does not change."""


@dataclass(frozen=True)
class ClientSettings:
    """How a client talks to Redis. Times are in seconds.

    Attributes:
        socket_timeout: Seconds after which a command counts as unanswered.
        connect_timeout: Seconds to open a connection.
        retries: How often a call is sent again after a broken connection; every call is idempotent.
        max_connections: Size of the command pool; a call that finds no free connection waits for one.
        max_outage: Seconds that a wait for a run goes on while Redis does not answer, after it has seen the run once.
        max_value: Bytes that one value of a start context may have.
    """

    socket_timeout: float = 5.0
    connect_timeout: float = 5.0
    retries: int = 3
    max_connections: int = 50
    max_outage: float = 60.0
    max_value: int = 16 * 1024 * 1024


def settled(settings: object) -> ClientSettings:
    """The settings of a client, those that hold without any if it is None.

    Raises:
        ConfigurationError: it is something else.
    """
    if settings is not None and not isinstance(settings, ClientSettings):
        raise ConfigurationError(
            f"settings are ClientSettings, got {type(settings).__name__}: write ClientSettings(...)"
        )
    return settings or ClientSettings()


def resolve_url(url: str | None) -> str:
    """The address: the argument, `FLOWCRAFT_REDIS_URL`, `REDIS_URL` or the default.

    Raises:
        ConfigurationError: it is none; the message names the argument or variable that it came from.
    """
    if url is not None:
        return usable_address(url, "url")
    return address_in(os.environ) or DEFAULT_URL


def address_in(environ: Mapping[str, str]) -> str | None:
    """The address that an environment names, None if it names none.

    Raises:
        ConfigurationError: what it names is none.
    """
    for variable in URL_VARIABLES:
        if environ.get(variable):
            return usable_address(environ[variable], variable)
    return None


def usable_address(url: object, called: str) -> str:
    """The address in redis-py's form.

    Args:
        url: the address.
        called: what to call it in the message: the argument or variable that it came from.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return checked_address(url)
    except AddressError as error:
        raise ConfigurationError(f"{called}: {error}{shown_if_harmless(url)}") from None


def url_of(client: Any, url: str | None, *, asynchronous: bool) -> str:
    """Where a redis-py client of the caller's own goes, as far as it says; for messages.

    Raises:
        ConfigurationError: it is of the other kind, or an address is given besides.
    """
    if url is not None:
        raise ConfigurationError("give url or redis, not both")
    if isinstance(client, redis.asyncio.Redis) is not asynchronous or not hasattr(client, "connection_pool"):
        kind = "redis.asyncio.Redis" if asynchronous else "redis.Redis"
        raise ConfigurationError(f"redis: expected a {kind}, got {type(client).__module__}.{type(client).__qualname__}")
    options = client.connection_pool.connection_kwargs
    if options.get("path"):
        return f"unix://{options['path']}"
    return f"redis://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db') or 0}"


def resolve_namespace(namespace: str | None) -> str:
    """The deployment's name: the argument, `FLOWCRAFT_NAMESPACE` or the default.

    Raises:
        ConfigurationError: no server can have it.
    """
    found = namespace or os.environ.get("FLOWCRAFT_NAMESPACE") or DEFAULT_NAMESPACE
    if not isinstance(found, str) or not NAMESPACE.fullmatch(found):
        raise ConfigurationError(f"namespace: the name of a deployment is 1 to 64 of A-Z a-z 0-9 . _ -, got {found!r}")
    return found


def hidden(url: object) -> str:
    """An address without its password, and of a length that fits a line."""
    if not isinstance(url, str) or not url.isprintable():
        return "an address that cannot be read"
    return _without_password(url[:200])


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    shown = re.sub(r"(?i)([?&](?:ssl_)?password=)[^&#]*", r"\1***", url)
    user, at, _ = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return shown.replace(f"//{user}@", f"//{name}:***@", 1) if at and colon else shown


def sync_client(url: str, settings: ClientSettings) -> "redis.Redis":
    """A redis-py client for commands."""
    return client_of(url, redis.BlockingConnectionPool, **_options(url, settings))


def async_client(url: str, settings: ClientSettings) -> "redis.asyncio.Redis":
    """A redis-py client for commands, for asyncio."""
    return async_client_of(url, redis.asyncio.BlockingConnectionPool, **_options(url, settings))


def client_of(
    url: str,
    pool: type[Any],
    *,
    kinds: tuple[type[redis.Redis], type[ClusterClient]] = (redis.Redis, ClusterClient),
    prepare: Callable[[Any], Any] = lambda pool: pool,
    **options: Any,
) -> "redis.Redis":
    """A client of redis-py for an address of any form, for threads. All of SDK and server are made here.

    Args:
        url: a checked address.
        pool: the class of its pools.
        kinds: the class of the client, for one server and for a cluster.
        prepare: called with each new pool; returns the one to use.
        options: of its connections and pools; what the address says itself counts before them.
    """
    single, clustered = kinds
    cluster = cluster_address(url)
    if cluster is not None:
        pool_to = _pools_of(cluster, pool, redis.SSLConnection, options)
        return clustered(Topology(cluster.seeds), lambda place: prepare(pool_to(place)))
    return single.from_pool(prepare(_pool_of(pool, url, options, asynchronous=False)))


def async_client_of(url: str, pool: type[Any], **options: Any) -> "redis.asyncio.Redis":
    """The same for asyncio."""
    cluster = cluster_address(url)
    if cluster is not None:
        pools = _pools_of(cluster, pool, redis.asyncio.SSLConnection, options)
        return AsyncClusterClient(Topology(cluster.seeds), pools)
    return redis.asyncio.Redis.from_pool(_pool_of(pool, url, options, asynchronous=True))


def _pool_of(pool: type[Any], url: str, options: dict[str, Any], *, asynchronous: bool) -> Any:
    sentinel = sentinel_address(url)
    if sentinel is None:
        return pool.from_url(url, **options)
    timeout = float(options.get("socket_connect_timeout") or options.get("socket_timeout") or SENTINEL_TIMEOUT)
    return pool(**{**options, **sentinel.pool_options(timeout, asynchronous=asynchronous)})


def _pools_of(
    cluster: ClusterAddress, pool: type[Any], tls_connection: type[Any], options: dict[str, Any]
) -> Callable[[Place], Any]:
    """Makes a pool for each node of a cluster."""
    encrypted = {"connection_class": tls_connection} if cluster.tls else {}
    common = {**options, **cluster.options, **encrypted}
    return lambda place: pool(**common, host=place[0], port=place[1])


def _options(url: str, settings: ClientSettings) -> dict[str, Any]:
    # The driver counts the attempts, not redis-py, so that it knows whether one of them may have been applied.
    options: dict[str, Any] = {
        "socket_timeout": settings.socket_timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "max_connections": settings.max_connections,
        "timeout": settings.socket_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if not url.startswith("unix"):
        options["socket_keepalive"] = True
    return options


def listening_connection(client: Any) -> Any:
    """A connection of its own to where a redis-py client goes, for subscriptions only.

    In a cluster it goes to some node, another one each time: what is published reaches them all.
    """
    clustered = isinstance(client, ClusterClient | AsyncClusterClient)
    pool = (client.any_node() if clustered else client).connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith("maint_")}
    options.update(protocol=2, decode_responses=False, retry=Retry(NoBackoff(), 0), health_check_interval=0)
    return pool.connection_class(**options)


def borne(replies: list[Any]) -> list[Any]:
    """The replies of a `Batch`; errors may be among them if it bears keys of another type.

    Raises:
        redis.exceptions.RedisError: one of them is of another kind.
    """
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return replies


_BROKEN = re.compile(
    r"BROKENRECORD the record of run (\S+) cannot be read: (.*?)(?: script: [0-9a-f]{40}.*)?$", re.DOTALL
)


def broken_run(step: Command | Batch | ScriptCall, error: Exception) -> RunBrokenError | None:
    """The run whose record an error of redis-py says cannot be read, None if it is another kind of error."""
    found = _BROKEN.search(str(error))
    if found:
        return RunBrokenError(found[1], found[2])
    commands = step.commands if isinstance(step, Batch) else (step,)
    if "WRONGTYPE" not in str(error) or not isinstance(commands[0], Command) or not commands[0].args:
        return None
    for family in (":run:", ":events:", ":logs:"):
        _, colon, run_id = str(commands[0].args[0]).partition(family)
        if colon:
            return RunBrokenError(run_id, "something of another type lies under its key")
    return None


_FOREIGN = re.compile(r"FOREIGNKEY (\S+) is a \w+ and no (\w+)")
_OF_PIPELINE = re.compile(r"Command # \d+ \(\S+ (\S+).*\) of pipeline caused error: ", re.DOTALL)


def foreign_key(step: Command | Batch | ScriptCall, error: Exception) -> ForeignKeyError | None:
    """The key that an error of redis-py says is of another type than ours, None if it is another kind of error."""
    found = _FOREIGN.search(str(error))
    if found:
        return ForeignKeyError(found[1], found[2])
    if "WRONGTYPE" not in str(error):
        return None
    in_pipeline = _OF_PIPELINE.match(str(error))
    key = in_pipeline[1] if in_pipeline else str(step.args[0]) if isinstance(step, Command) and step.args else ""
    expected = type_of_key(key)
    return None if expected is None else ForeignKeyError(key, expected)


class Attempts:
    """Counts the attempts at one call, and says what becomes of a failed one.

    Args:
        step: what is sent; only a script changes something.
        url: address, for the message; its password never shows.
        settings: how many attempts there are.
        asked: what the caller wanted, as it goes on after "cannot".
    """

    def __init__(self, step: Command | Batch | ScriptCall, url: str, settings: ClientSettings, asked: str) -> None:
        self._asked = asked
        self._step = step
        self._url = url
        self._writes = isinstance(step, ScriptCall)
        self._left = settings.retries
        self._sent = False
        self._pause = 0.02

    def failed(self, error: Exception) -> float:
        """Seconds to pause before the next attempt.

        Raises:
            ConfigurationError: Redis refuses this user.
            RunBrokenError: the record of the run cannot be read.
            ForeignKeyError: something else has written to a key of ours.
            BackendRefusedError: Redis refuses for now.
            BackendUnavailableError: there is no further attempt.
        """
        place = hidden(self._url)
        if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.NoPermissionError):
            raise ConfigurationError(f"Redis at {place} refuses this user: {error}") from error
        broken = broken_run(self._step, error)
        if broken is not None:
            raise broken from error
        foreign = foreign_key(self._step, error)
        if foreign is not None:
            raise foreign from error
        refused = isinstance(error, LOST_FOR_GOOD)
        self._sent = self._sent or not (refused or _never_sent(error))
        condition = condition_of(error)
        if condition is not None and (refused or self._left <= 0):
            raise BackendRefusedError(
                f"cannot {self._asked}: Redis at {place} refuses: {condition.advice}",
                reason=condition.name,
                operation=self._asked,
                maybe_applied=self._writes and self._sent,
            ) from error
        if refused or self._left <= 0:
            raise BackendUnavailableError(
                f"cannot {self._asked}: Redis at {place} {'refuses' if refused else 'does not answer'}: {_reason(error)}",
                operation=self._asked,
                maybe_applied=self._writes and self._sent,
            ) from error
        self._left -= 1
        pause, self._pause = self._pause, min(self._pause * 3, 0.5)
        return pause


def _reason(error: Exception) -> str:
    """What an error says, without the command that redis-py puts in front of it in a pipeline."""
    message = re.sub(r"^Command # \d+ \(.*\) of pipeline caused error: ", "", str(error), flags=re.DOTALL)
    return message.removeprefix("('").removesuffix("',)")


def _never_sent(error: Exception) -> bool:
    if isinstance(error, redis.exceptions.BusyLoadingError | redis.exceptions.MaxConnectionsError):
        return True
    return "connecting to" in str(error) or "No connection available" in str(error)
