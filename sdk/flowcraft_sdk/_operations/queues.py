"""Queues: what waits in them, and pausing them."""

import json
import re
from typing import Any
from urllib.parse import unquote

from flowcraft_sdk._operations.deployment import Deployment, keys_of, partitions_of, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored, workers
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import check_text
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import LimitInfo, NodeStatus, QueueInfo, RunSnapshot

QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
DEFAULT_QUEUE = "default"
KEYS_AT_ONCE = 10_000

NAMES_KEPT_MS = 60_000

LOOKED_AT = 100
"""Nodes of a queue that are looked at for the one that has waited longest."""

LEAD_MS = 3_600_000
SHIFTS = {0.25: 0.25 - LEAD_MS, 0.5: 0.5 + LEAD_MS}
"""By its fraction, how far the score of a ready node is off the time since when it is ready: see `score_of` in base.lua."""


def checked_queue(name: Any) -> str:
    """The name of a queue.

    Raises:
        ConfigurationError: it is none.
    """
    found = check_text(name, "the name of a queue", 64)
    if not QUEUE_NAME.fullmatch(found):
        raise ConfigurationError(f"{found!r} is no name for a queue; use 1 to 64 letters, digits, - _ and .")
    return found


def pause(deployment: Deployment, name: str, paused: bool) -> Operation[QueueInfo]:
    """Pause a queue in all partitions, or resume it there; the queue as it is now."""
    queue = checked_queue(name)
    for keys in (yield from partitions_of(deployment)).all:
        yield scripts.pause(keys, queue=queue, paused=paused)
    (found,) = yield from _look(deployment, [queue])
    return found


def queues(deployment: Deployment) -> Operation[list[QueueInfo]]:
    """The queues that nodes wait in, that workers serve or that are paused, by name."""
    names = {DEFAULT_QUEUE}
    for keys in (yield from partitions_of(deployment)).all:
        names |= paused_in((yield command("GET", keys.claiming))).keys()
        names |= yield from _with_ready_nodes(keys)
    names.update(*(worker.queues for worker in (yield from workers(deployment))))
    return (yield from _look(deployment, sorted(names)))


def counted_queues(deployment: Deployment) -> Operation[list[QueueInfo]]:
    """As `queues`, for pages and metrics, which ask often: which queues there are is looked for once a minute."""
    now = yield from server_ms(deployment)
    at, known = deployment.known_queues
    if abs(now - at) > NAMES_KEPT_MS:
        known = tuple(queue.name for queue in (yield from queues(deployment)))
        deployment.known_queues = now, known
    return (yield from _look(deployment, list(known)))


def since_of(score: float) -> float:
    """Since when a node is ready, in ms, by its score in its queue."""
    return score - SHIFTS.get(score % 1, 0.0)


def paused_in(claiming: Any) -> dict[str, int]:
    """The queues that are paused in a partition, and since when in ms."""
    try:
        found = json.loads(claiming or "{}").get("paused") or {}
        return {str(queue): int(since) for queue, since in found.items()}
    except (ValueError, AttributeError, TypeError):
        return {}  # no script writes this


def with_causes(deployment: Deployment, snapshot: RunSnapshot) -> Operation[RunSnapshot]:
    """The picture of a run, with what keeps its ready nodes from being claimed."""
    if not any(node.status is NodeStatus.READY for node in snapshot.nodes.values()):
        return snapshot
    keys = yield from keys_of(deployment, snapshot.run_id)
    paused = paused_in((yield command("GET", keys.claiming)))
    limited = [(name, node.limit) for name, node in snapshot.nodes.items() if node.limit is not None]
    wanted = [command("ZSCORE", keys.limited(limit), f"{snapshot.run_id}|{name}") for name, limit in limited]
    waiting = (yield Batch(tuple(wanted), bearing=True)) if wanted else []
    causes = {
        name: phrase_of(limit)
        for (name, limit), score in zip(limited, waiting, strict=True)
        if score is not None and not isinstance(score, Exception)
    }
    for name, node in snapshot.nodes.items():
        if node.status is NodeStatus.READY and node.queue in paused:
            causes[name] = f"queue '{node.queue}' is paused"
    nodes = {
        name: node.model_copy(update={"blocked_by": causes[name]}) if name in causes else node
        for name, node in snapshot.nodes.items()
    }
    return snapshot.model_copy(update={"nodes": nodes})


def phrase_of(limit: str) -> str:
    """What a limit is called in a line."""
    kind, _, name = limit.rpartition(":")
    return f"the limit of handler '{unquote(name)}'" if kind == "handler" else f"limit '{name}'"


def limits(deployment: Deployment) -> Operation[list[LimitInfo]]:
    """The limits that are published, by name."""
    partitions = (yield from partitions_of(deployment)).all
    now = yield from server_ms(deployment)
    published = yield command("HGETALL", deployment.keys.limits)
    found = []
    for name, rule in sorted((text(name), text(rule)) for name, rule in published.items()):
        interval, _, rest = rule.partition("|")
        most = rest.partition("|")[2]
        reads = [
            read
            for keys in partitions
            for read in (
                command("ZCARD", keys.limited(name)),
                command("ZCARD", keys.slots(name)),
                command("ZRANGE", keys.limited(name), 0, LOOKED_AT - 1, "WITHSCORES"),
            )
        ]
        replies = yield Batch(tuple(reads), bearing=True)
        waiting, admitted = (sum(reply for reply in replies[place::3] if isinstance(reply, int)) for place in range(2))
        oldest = [since_of(score) for reply in replies[2::3] if isinstance(reply, list) for _, score in scored(reply)]
        found.append(
            LimitInfo(
                name=limit_name(name),
                rate=round(1000 / float(interval), 6) if interval else None,
                max_concurrent=int(most) if most else None,
                waiting=waiting,
                oldest_age=max(0.0, (now - min(oldest)) / 1000) if oldest else None,
                admitted=admitted,
            )
        )
    return found


def limit_name(stored: str) -> str:
    """The name of a limit as it is shown: a handler's may hold any characters."""
    kind, _, name = stored.rpartition(":")
    return f"{kind}:{unquote(name)}" if kind else name


def _with_ready_nodes(keys: Keys) -> Operation[set[str]]:
    base, cursor = keys.ready(""), 0
    found = set[str]()
    while True:
        reply = yield command("SCAN", cursor, "MATCH", base + "*", "COUNT", KEYS_AT_ONCE)
        cursor = int(reply[0])
        found |= {text(name).removeprefix(base).removesuffix("!") for name in reply[1]}
        if cursor == 0:
            return found


def _look(deployment: Deployment, names: list[str]) -> Operation[list[QueueInfo]]:
    partitions = (yield from partitions_of(deployment)).all
    now = yield from server_ms(deployment)
    serving = yield from workers(deployment)
    claiming = yield Batch(tuple(command("GET", keys.claiming) for keys in partitions))
    paused = [paused_in(each) for each in claiming]
    found = []
    for name in names:
        reads = [
            read
            for keys in partitions
            for read in (
                command("ZCARD", keys.ready(name)),
                command("ZCARD", keys.suspects(name)),
                command("ZRANGE", keys.ready(name), 0, LOOKED_AT - 1, "WITHSCORES"),
                # The first of normal and of low priority: they stand behind those of high priority that are younger.
                command("ZRANGEBYSCORE", keys.ready(name), now - LEAD_MS, "+inf", "WITHSCORES", "LIMIT", 0, 1),
                command("ZRANGEBYSCORE", keys.ready(name), now + 1, "+inf", "WITHSCORES", "LIMIT", 0, 1),
            )
        ]
        replies = yield Batch(tuple(reads), bearing=True)
        counts = [reply for reply in replies if isinstance(reply, int)]
        oldest = [since_of(score) for reply in replies if isinstance(reply, list) for _, score in scored(reply)]
        since = [each[name] for each in paused if name in each]
        found.append(
            QueueInfo(
                name=name,
                ready=sum(counts),
                oldest_age=max(0.0, (now - min(oldest)) / 1000) if oldest else None,
                workers=sum(name in worker.queues for worker in serving),
                paused_since=moment(min(since)) if since else None,
            )
        )
    return found
