"""What `flowcraft-server check` says about a Redis: product, mode, partitions, replicas, persistence, and what it recommends."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import redis

from flowcraft_sdk._transport.cluster import SLOTS
from flowcraft_sdk._transport.cluster_client import ClusterClient
from flowcraft_sdk.records.counts import counted
from flowcraft_server.service.redis_checks import info_of, servers_of

SAFE_REPLICAS = 2
"""Of a primary, from which on `min-replicas-to-write 1` costs nothing when one of them is away."""


def describe_redis(client: "redis.Redis", url: str, partitions: int) -> str:
    """One line: what answers at an address.

    Args:
        partitions: how many the deployment has.
    """
    nodes = [node for node, _ in servers_of(client, url)]
    products = Counter(_product(node) for node in nodes)
    about = [" and ".join(products), _mode(client, url), _partitions(partitions), _replicas(nodes)]
    about += [_one_or_each(Counter(info_of(node, "memory").get("maxmemory_policy") for node in nodes))]
    about += [_one_or_each(Counter(_persistence(node) for node in nodes))]
    return ", ".join(part for part in about if part)


def recommendations(client: "redis.Redis", url: str, durability: str) -> Iterator[str]:
    """What would make a Redis with replicas lose less, in lines that say what to set.

    Args:
        durability: `redis.durability`.
    """
    wanted = int(durability.partition(":")[2] or 0) if durability.startswith("replicas:") else 0
    for node, place in servers_of(client, url):
        replicas = _following(node) or 0
        least = wanted or (1 if replicas >= SAFE_REPLICAS else 0)
        found = info_of(node, "replication").get("min_slaves_good_slaves")  # is there only where a number is set
        if replicas and least and found is None:
            why = (
                f"redis.durability is {durability}, so no start counts without"
                if wanted
                else f"it has {replicas} replicas, and while it is cut off from all of them takes steps that a failover loses"
            )
            yield f"{place}: min-replicas-to-write {least} ({why}); redis-cli CONFIG SET min-replicas-to-write {least}"


def _product(node: "redis.Redis") -> str:
    server = info_of(node, "server")
    name = str(server.get("server_name", "")).capitalize()
    if name == "Valkey":
        return f"Valkey {server.get('valkey_version', '')}".strip()
    version = server.get("redis_version")
    return "a Redis that does not report its version" if version is None else f"Redis {version}"


def _mode(client: "redis.Redis", url: str) -> str:
    if isinstance(client, ClusterClient):
        topology = client.topology
        missing = topology.missing_slots
        slots = f"{missing:,} of {SLOTS:,} slots missing" if missing else "no slots missing"
        return f"Cluster of {counted(len(topology.primaries), 'primary', 'primaries')} with {slots}"
    return "primary behind Sentinel" if "+sentinel" in url.partition("://")[0] else "one server"


def _partitions(count: int) -> str:
    return counted(count, "partition", "partitions")


def _replicas(nodes: list["redis.Redis"]) -> str:
    counts = [_following(node) for node in nodes]
    each = _one_or_each(Counter(None if count is None else counted(count, "replica", "replicas") for count in counts))
    return f"{each} for each" if each and len(nodes) > 1 else each


def _following(node: "redis.Redis") -> int | None:
    found = info_of(node, "replication").get("connected_slaves")
    return found if isinstance(found, int) else None


def _persistence(node: "redis.Redis") -> str | None:
    enabled = info_of(node, "persistence").get("aof_enabled")
    if enabled is None:
        return None
    if not enabled:
        return "no append-only file"
    sync = _config(node, "appendfsync")
    return f"append-only file ({sync})" if sync else "append-only file"


def _config(node: "redis.Redis", name: str) -> Any:
    try:
        return node.config_get(name).get(name)
    except redis.exceptions.RedisError:  # managed services forbid it
        return None


def _one_or_each(found: Counter[Any]) -> str:
    """What all nodes have in common, else how many have what."""
    known = {value: count for value, count in found.items() if value is not None}
    if len(known) < 2:
        return "".join(str(value) for value in known)
    return " / ".join(f"{value} ({count})" for value, count in known.items())
