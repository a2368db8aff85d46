"""Limits: does a rate hold over three processes, and what do nodes that wait for a limit cost others?

`python -m benchmarks.limits [--seconds 60]`: first 10/s over three worker processes for so many seconds; the figure is by how
much the nodes that began differ from the rate. Then chains of ten quick nodes alone and beside 1,000 nodes that wait, in turn.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from typing import Any

from benchmarks.graphs import Load, start_all
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, cpu_seconds, store, workers
from flowcraft_sdk import Client, Handle
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.routes import Route
from flowcraft_server.config.limits import Limit
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings

RATE = 10
PROCESSES = 3
THREADS = 4
WAITING = 1_000
ROUNDS = 9
CHAINS = Load("chain10", 1_500, 10)
LIMITED = [
    {"id": name, "nodes": [{"id": "n0", "uses": "brief", "config": {"limit": name}}], "edges": []}
    for name in ("ten", "seldom")
]
LIMITS = {"ten": Limit(rate=RATE), "seldom": Limit(rate=1 / 86_400)}


def prepare_limits(link: StoreLink, keys: Keys) -> None:
    """Publish the limits, and blueprints with a node that counts against each."""
    partitions = Partitions(keys.namespace)
    publish_settings(link.redis, partitions, history=True, max_events=10_000, cancel_grace_ms=30_000, limits=LIMITS)
    routes: dict[str, Route] = {}
    publish_blueprints(link.redis, partitions, [Blueprint.from_plain(graph) for graph in LIMITED], routes)


def begun_in(client: Client, seconds: float) -> int:
    """How many nodes of a limit of 10/s begin in a time; what was saved up before is not counted."""
    runs = [client.start("ten") for _ in range(int(RATE * (seconds + 10)))]
    since = runs[2 * RATE].result(timeout=60)["n0"]
    time.sleep(max(0.0, since + seconds + 0.5 - time.monotonic()))
    begun = [run.result(timeout=1)["n0"] for run in runs if run.status() == "completed"]
    cancel(runs)
    return sum(since < moment <= since + seconds for moment in begun)


def rate_of_chains(link: StoreLink, keys: Keys, pid: int) -> tuple[float, float]:
    """Nodes of chains a second, from the first start to the last end; and us of processor time a node, of worker and Redis."""
    ended = keys.index_status("completed")
    before = link.redis.zcard(ended)
    used = processor_seconds(link, pid)
    begin = time.perf_counter()
    start_all(link, keys, CHAINS)
    while link.redis.zcard(ended) < before + CHAINS.runs:
        time.sleep(0.002)
    nodes = CHAINS.runs * CHAINS.nodes
    return nodes / (time.perf_counter() - begin), (processor_seconds(link, pid) - used) / nodes * 1e6


def processor_seconds(link: StoreLink, pid: int) -> float:
    """Processor time that a worker and Redis have used."""
    found = link.redis.info("cpu")
    return cpu_seconds(pid) + float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def cancel(runs: Iterable[Handle[Any]]) -> None:
    """End runs at once."""
    for run in runs:
        run.cancel(grace=0)


Rounds = list[tuple[float, float]]


def beside(link: StoreLink, keys: Keys, client: Client, pid: int) -> tuple[Rounds, Rounds]:
    """The rate of chains alone, and beside nodes that wait, in turn."""
    alone: Rounds = []
    accompanied: Rounds = []
    client.start("seldom").result(timeout=10)  # takes the only token of the day
    rate_of_chains(link, keys, pid)
    for number in range(ROUNDS):
        for waits in (True, False) if number % 2 else (False, True):  # the same is done before both
            waiting = [client.start("seldom") for _ in range(WAITING)]
            assert link.redis.zcard(keys.limited("seldom")) == WAITING
            if not waits:
                cancel(waiting)
            (accompanied if waits else alone).append(rate_of_chains(link, keys, pid))
            if waits:
                cancel(waiting)
    return alone, accompanied


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="for how long the rate is measured")
    chosen = arguments.parse_args()
    with store() as (link, keys), Client(link.url, namespace=NAMESPACE) as client:
        prepare_limits(link, keys)
        with workers("benchmarks.worker", link.url, THREADS, processes=PROCESSES):
            begun = begun_in(client, chosen.seconds)
        off = begun / (RATE * chosen.seconds) - 1
        print(f"{RATE}/s over {PROCESSES} processes: {begun} nodes in {chosen.seconds:g} s, {off:+.1%}", flush=True)
        with workers("benchmarks.worker", link.url, THREADS) as (worker,):
            alone, accompanied = beside(link, keys, client, worker.pid)
        for place, figure in enumerate(("nodes a second", "processor time a node")):
            mine, others = [each[place] for each in accompanied], [each[place] for each in alone]
            ratios = [one / other for one, other in zip(mine, others, strict=True)]
            print(
                f"chains beside {WAITING:,} nodes that wait, {figure}: {statistics.median(ratios):.3f} times that alone "
                f"({min(ratios):.3f} to {max(ratios):.3f}; alone {statistics.median(others):,.1f})"
            )
    write("limits", {"begun": begun, "seconds": chosen.seconds, "alone": alone, "accompanied": accompanied})


if __name__ == "__main__":
    main()
