"""Publishers and servers of a deployment's name: two deployments that share a name take turns otherwise."""

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records.counts import counted
from flowcraft_server.store.publish import text

RECENTLY = 30.0
"""Seconds within which a worker that serves a name was last seen."""

MOST_WORKERS = 200
HASH_SHOWN = 8


def deployment_id(path: Path) -> str:
    """What distinguishes a deployment from others: its host and its file."""
    return f"{socket.gethostname()}:{path.resolve()}"


@dataclass(frozen=True, slots=True)
class Publication:
    """A blueprint as it was published last.

    Attributes:
        plan: the hash of its plan.
        by: the deployment that published it, empty if that is not known.
        at_ms: when, 0 if that is not known.
    """

    plan: str
    by: str = ""
    at_ms: int = 0

    def to_json(self) -> str:
        """As Redis keeps it."""
        return json.dumps({"plan": self.plan, "by": self.by, "at": self.at_ms})

    def shown(self) -> str:
        """Version, publisher and time, for people."""
        by = f" by {self.by}" if self.by else ""
        ago = f" {_span(time.time() - self.at_ms / 1000)} ago" if self.at_ms else ""
        return f"{self.plan[:HASH_SHOWN]}{', published' if by or ago else ''}{by}{ago}"


@dataclass(frozen=True, slots=True)
class NamespacePeers:
    """What was there before a deployment was published.

    Attributes:
        published: by blueprint id what was published last.
        workers: by deployment, other than this one, how many of its workers were seen lately.
    """

    published: Mapping[str, Publication]
    workers: Mapping[str, int]

    def change_of(self, blueprint_id: str, plan: str) -> str:
        """What publishing a blueprint changes: `new`, nothing, or which version it replaces."""
        before = self.published.get(blueprint_id)
        if before is None:
            return "new"
        return "" if before.plan == plan else f"changed, was {before.shown()}"

    def others(self, own: str) -> dict[str, int]:
        """Workers of deployments whose file lies elsewhere, on whichever host: they are no copies of this one."""
        return {by: count for by, count in self.workers.items() if file_of(by) != file_of(own)}


def file_of(deployment: str) -> str:
    """The file of a deployment, without its host: copies of a deployment have the same one."""
    return deployment.partition(":")[2]


def read_published(client: Any, keys: Keys) -> dict[str, Publication]:
    """By blueprint id what is published under a name.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(keys.blueprints)
    pipe.hgetall(keys.publishers)
    plans, publishers = pipe.execute()
    publications = {text(name): _publication(text(raw)) for name, raw in publishers.items()}
    published = {}
    for name, plan in ((text(name), text(plan)) for name, plan in plans.items()):
        known = publications.get(name)
        published[name] = known if known is not None and known.plan == plan else Publication(plan)
    return published


def look_around(client: Any, keys: Keys, own: str) -> NamespacePeers:
    """Read what is published under a name, and which workers serve it.

    Args:
        own: this deployment, whose workers do not count.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    seconds, micros = client.time()
    now = seconds * 1000 + micros / 1000 + float(client.get(keys.clock) or 0)
    seen = client.zrevrangebyscore(keys.workers, "+inf", now - RECENTLY * 1000, 0, MOST_WORKERS)
    workers: dict[str, int] = {}
    for worker in seen:
        by = client.hget(keys.worker(text(worker)), "deployment")
        if by is not None and text(by) and text(by) != own:
            workers[text(by)] = workers.get(text(by), 0) + 1
    return NamespacePeers(read_published(client, keys), workers)


def note_publisher(
    client: "redis.Redis", keys: Keys, before: NamespacePeers, hashes: Mapping[str, str], own: str
) -> None:
    """Keep the publisher of each blueprint; of one that has not changed, the first publisher."""
    changed: dict[Any, Any] = {
        name: Publication(plan, own, int(time.time() * 1000)).to_json()
        for name, plan in hashes.items()
        if (known := before.published.get(name)) is None or known.plan != plan or not known.by
    }
    if changed:
        client.hset(keys.publishers, mapping=changed)


def warnings_about(before: NamespacePeers, own: str, hashes: Mapping[str, str] | None = None) -> list[str]:
    """What speaks for two deployments of one name.

    Args:
        hashes: of the plans that this deployment publishes, by blueprint; None to look at the workers alone.
    """
    found = []
    others = before.others(own)
    for by, count in sorted(others.items()):
        workers = f"{counted(count, 'worker')} of {by}"
        found.append(
            f"this name is served by {workers} too: each of the two gets runs whose handlers only the other has; give one of"
            " them another `name`"
        )
    # A publisher none of whose workers is there any more, such as this deployment before its folder was moved, takes no turns.
    live = {file_of(by) for by in others}
    for name, plan in (hashes or {}).items():
        known = before.published.get(name)
        if known is not None and known.plan != plan and file_of(known.by) in live:
            found.append(
                f"blueprint '{name}' is another one there: {known.shown()}; new runs get the one published last"
            )
    return found


def listed_publications(before: NamespacePeers, hashes: Mapping[str, str], most: int = 8) -> str:
    """Blueprints with their versions and what publishing them changed, for the start of a server."""
    shown = []
    for name, plan in list(hashes.items())[:most]:
        change = before.change_of(name, plan)
        shown.append(f"{name}@{plan[:HASH_SHOWN]}" + (f" ({change})" if change else ""))
    more = len(hashes) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "none"


def listed_workers(workers: Mapping[str, int]) -> str:
    """Other deployments that serve a name, with how many workers each."""
    return ", ".join(f"{by} ({counted(count, 'worker')})" for by, count in sorted(workers.items()))


def _publication(raw: str) -> Publication | None:
    try:
        fields = json.loads(raw)
        return Publication(str(fields["plan"]), str(fields["by"]), int(fields["at"]))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
