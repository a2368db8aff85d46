"""What Redis must be like before anything is started on it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk._operations.durability import ASYNC, FSYNC, is_kept, waiting_command
from flowcraft_sdk._transport.cluster import SLOTS, Topology
from flowcraft_sdk._transport.cluster_client import ClusterClient
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import PARTITIONS_FIELD, Partitions
from flowcraft_sdk.records.counts import counted
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.link import connect
from flowcraft_server.store.publish import WrongPartitions, check_partitions

NO_EVICTION = "noeviction"
LONGEST_PAUSE = 2.0
READ_ATTEMPTS = 5
READ_PAUSE = 0.2
CONFIRMED_WITHIN = 2500
"""Milliseconds that a Redis has to confirm a write; an append-only file is synced each second."""


class RedisUnusable(Exception):
    """Redis does not answer or is not set up to keep data. The message is one line that says what to do."""


def shown_url(url: str) -> str:
    """An address without its password."""
    return Redactor().clean(url)


def wait_for_redis(url: str, timeout: float, pause: Callable[[float], bool] | None = None) -> "redis.Redis":
    """A client of a Redis that answers.

    Args:
        url: its address.
        timeout: seconds to try for, with growing pauses.
        pause: sleeps for some seconds and returns True to give up; plain sleep by default.

    Raises:
        RedisUnusable: it did not answer in time, or refused us, which waiting does not mend.
    """
    pause = _sleep if pause is None else pause
    try:
        client = connect(url, decode=True)
    except ValueError as error:
        raise RedisUnusable(f"{shown_url(url)} is no address of a Redis: {_first_line(error)}") from None
    deadline = clock() + timeout
    seconds = 0.1
    logged = False
    while True:
        refusal = _refusal(client, url)
        if refusal is None:
            return client
        if clock() + seconds > deadline:
            raise RedisUnusable(
                f"{shown_url(url)} does not answer{f' within {timeout:g} s' if timeout else ''} ({refusal}); "
                "is redis.url right, and Redis running?"
            )
        if not logged:
            logger.warning("{} does not answer yet ({}), trying again", shown_url(url), refusal)
            logged = True
        if pause(seconds):
            raise RedisUnusable("stopped while waiting for Redis")
        seconds = min(seconds * 2, LONGEST_PAUSE)


def find_problems(client: "redis.Redis", url: str) -> list[str]:
    """What is wrong with a Redis for our purposes: it may evict keys, or it is a replica."""
    problems = []
    for server, place in servers_of(client, url):
        policy = info_of(server, "memory").get("maxmemory_policy")
        if policy is None:
            logger.warning("{} does not report its maxmemory-policy; make sure that it is {}", place, NO_EVICTION)
        elif policy != NO_EVICTION:
            problems.append(
                f"{place} throws data away when its memory is full (maxmemory-policy {policy}); "
                f"set it to {NO_EVICTION}: redis-cli CONFIG SET maxmemory-policy {NO_EVICTION}"
            )
        if info_of(server, "replication").get("role") == "slave":
            problems.append(f"{place} is a read-only replica; name its primary in redis.url")
    return problems


def warnings_about(client: "redis.Redis", url: str, partitions: int) -> list[str]:
    """What is dangerous about a Redis and yet may be meant, such as keeping nothing on disk.

    Args:
        partitions: how many the deployment has.
    """
    warnings = []
    for server, place in servers_of(client, url):
        if _keeps_nothing(server):
            warning = f'{place} keeps nothing on disk (appendonly no, save ""): all runs are lost when it restarts'
            warnings.append(f"{warning}; redis-cli CONFIG SET appendonly yes, and the same in its configuration")
    if isinstance(client, ClusterClient):
        warnings += _cluster_warnings(client.topology, shown_url(url), partitions)
    return warnings


def _cluster_warnings(topology: Topology, place: str, partitions: int) -> Iterator[str]:
    if topology.missing_slots:
        yield f"{place}: {topology.missing_slots:,} of {SLOTS:,} slots are served by no node; redis-cli --cluster fix"
    for host, port in topology.without_replica:
        yield f"redis://{host}:{port} has no replica: the runs of its slots stand still while it is away, and are lost with it"
    nodes = len(topology.primaries)
    if partitions < nodes:
        shortage = (
            f"{place} has {counted(nodes, 'primary', 'primaries')}, and redis.partitions is {partitions}: "
            "the others stay empty"
        )
        yield f"{shortage}; give a new deployment 16 partitions or more"


def servers_of(client: "redis.Redis", url: str) -> list[tuple["redis.Redis", str]]:
    """Each server that keeps data, with its address for messages."""
    if not isinstance(client, ClusterClient):
        return [(client, shown_url(url))]
    nodes = client.primaries()
    return [
        (node, f"redis://{host}:{port}") for node, (host, port) in zip(nodes, client.topology.primaries, strict=True)
    ]


def _keeps_nothing(client: "redis.Redis") -> bool:
    """Whether a server keeps nothing on disk. One that does not report it is trusted."""
    if info_of(client, "persistence").get("aof_enabled") != 0:
        return False
    try:
        return bool(client.config_get("save").get("save") == "")
    except redis.exceptions.RedisError as error:  # managed services forbid it, and keep data in their own way
        logger.debug("CONFIG GET save is refused: {}", error)
        return False


def check_protocol(client: "redis.Redis", url: str, partitions: Partitions) -> None:
    """Look whether what the namespace keeps in Redis was written by a release of the same protocol, into as many partitions.

    Raises:
        RedisUnusable: it was not: this release would neither find nor understand it; or Redis stopped answering.
    """
    keys = partitions.home
    found = _read_with_retry(client, url, lambda: client.get(keys.protocol))
    spoken = found.decode() if isinstance(found, bytes) else found
    if spoken not in (None, PROTOCOL_VERSION):
        raise RedisUnusable(
            f"{shown_url(url)}: the runs of '{keys.namespace}' are of protocol {spoken}, this server speaks {PROTOCOL_VERSION}: "
            "let the release that recorded them finish them, or give this deployment another `name`"
        )
    recorded = _read_with_retry(client, url, lambda: client.hget(keys.settings, PARTITIONS_FIELD))
    try:
        check_partitions(partitions, spoken, recorded)
    except WrongPartitions as error:
        raise RedisUnusable(f"{shown_url(url)}: {error}") from None


def _read_with_retry(client: "redis.Redis", url: str, read: Callable[[], Any]) -> Any:
    """What is read; a lost reply is asked for again.

    Raises:
        RedisUnusable: Redis does not answer, or refuses.
    """
    for attempt in range(READ_ATTEMPTS):
        try:
            return read()
        except redis.exceptions.RedisError as error:
            if attempt + 1 == READ_ATTEMPTS:
                raise RedisUnusable(f"{shown_url(url)} does not answer: {_first_line(error)}") from None
            time.sleep(READ_PAUSE)
    return None


def check_durability(client: "redis.Redis", url: str, keys: Keys, level: str) -> None:
    """Try whether a Redis can confirm that something is kept as `redis.durability` wants it.

    Raises:
        RedisUnusable: it cannot, or did not within some seconds.
    """
    if level == ASYNC:
        return
    wait = waiting_command(level, CONFIRMED_WITHIN)
    pipe = client.pipeline(transaction=False)
    pipe.set(keys.synced, "start")
    pipe.execute_command(wait.name, *wait.args)  # type: ignore[no-untyped-call]
    checked = f"redis.durability: {level}: {shown_url(url)}"
    try:
        reply = pipe.execute()[1]
    except redis.exceptions.RedisError as error:
        why = _first_line(error)
        if "appendonly" in why:
            raise RedisUnusable(f"{checked} keeps no append-only file; set appendonly yes") from None
        if "unknown command" in why:
            raise RedisUnusable(f"{checked} has no {wait.name}, which came with Redis 7.2 and Valkey 7.2") from None
        raise RedisUnusable(f"{checked} refuses {wait.name} ({why})") from None
    if not is_kept(level, reply):
        short = f"has {reply} replicas that follow it" if level != FSYNC else "did not confirm a write"
        raise RedisUnusable(f"{checked} {short} within {CONFIRMED_WITHIN / 1000:g} s")


def _refusal(client: "redis.Redis", url: str) -> str | None:
    """Why there is no answer, None when there is one.

    Raises:
        RedisUnusable: it answers, and does not want us.
    """
    try:
        client.ping()
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise RedisUnusable(f"{shown_url(url)} refuses us ({_first_line(error)}); is the password right?") from None
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        return _first_line(error)
    except redis.exceptions.RedisError as error:
        raise RedisUnusable(f"{shown_url(url)} refuses us ({_first_line(error)})") from None
    return None


def info_of(client: "redis.Redis", section: str) -> dict[str, Any]:
    """A section of what a server reports of itself; empty if it does not."""
    # INFO and not CONFIG GET, which managed services forbid.
    try:
        return dict(client.info(section))
    except redis.exceptions.RedisError as error:
        logger.debug("INFO {} is refused: {}", section, error)
        return {}


def _first_line(error: Exception) -> str:
    return Redactor().clean(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
