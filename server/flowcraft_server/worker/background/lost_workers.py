"""Which lost workers held nodes in one partition only: there a node may have been alone, and is to blame.

One script sees one partition. So a process that gives up nodes asks all others before, a script each, once for each lost worker.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink

_HOLDER = re.compile(rb"L\|\d+\|\d+\|\d+\|\d+\|([^!|]+)")
"""Of a running node's state."""


def alone_in(link: StoreLink, partitions: Partitions, workers: Iterable[str]) -> dict[Keys, list[str]]:
    """For each partition those of some workers that hold nothing in all others.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    asked = [(keys, worker) for worker in workers for keys in partitions.all]
    replies = link.send([scripts.held_by(keys, worker) for keys, worker in asked])
    holding: dict[str, set[Keys]] = {}
    for (keys, worker), reply in zip(asked, replies, strict=True):
        if reply != 0:  # also where it is not known
            holding.setdefault(worker, set()).add(keys)
    workers = {worker for _, worker in asked}
    return {
        keys: sorted(worker for worker in workers if holding.get(worker, set()) <= {keys}) for keys in partitions.all
    }


def lost_workers(link: StoreLink, due: Sequence[Keys], now: float, most: int) -> set[str]:
    """The workers whose leases have run out in some partitions.

    Args:
        now: milliseconds, by the clock of Redis.
        most: leases of each partition that are looked at.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    found = link.read_each([("ZRANGEBYSCORE", keys.leases, "-inf", int(now), "LIMIT", 0, most) for keys in due])
    reads: list[tuple[Any, ...]] = []
    for keys, members in zip(due, found, strict=True):
        for member in members if isinstance(members, list) else ():
            run_id, _, instance_id = member.decode("utf-8", "replace").partition("|")
            reads.append(("HGET", keys.run(run_id), f"n:{instance_id}"))
    states = (state for state in link.read_each(reads) if isinstance(state, bytes))
    return {holder[1].decode() for state in states if (holder := _HOLDER.match(state)) is not None}
