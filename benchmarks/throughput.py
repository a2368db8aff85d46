"""Ours and the peers side by side, interleaved: `python -m benchmarks.throughput [--quick] [--awake] [--only WORD ...]`.

Prints a table and writes benchmarks/results/throughput.json. Who cannot be installed is left out, and shown.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.graphs import Load, Measured, measure
from benchmarks.peers import installed
from benchmarks.peers.bare_huey import rate_of_huey
from benchmarks.report import write
from benchmarks.server import Server, binaries, processors, server
from benchmarks.setting import TREE_DEPTH
from benchmarks.tables import HUEY, ORIGINALS, show
from flowcraft_server.store.link import StoreLink

ON_BOTH = ("chain of 10, 1 process", "1->20->1, 1 process", "chain of 10, 2 processes", "1->20->1, 2 processes", HUEY)
"""What is measured on the embedded store's Valkey, too, where Redis is the first server."""


def loads(quick: bool) -> Iterator[tuple[str, Load, int]]:
    """(name, what, processes) of our workloads."""
    scale = 4 if quick else 1
    chain, fan = Load("chain10", 6_000 // scale, 10), Load("fan20", 2_400 // scale, 22)
    for processes in (1, 2, 4):
        yield f"chain of 10, {processes} process{'es' * (processes > 1)}", chain, processes
        yield f"1->20->1, {processes} process{'es' * (processes > 1)}", fan, processes
    yield "chain of 10, history off", Load("chain10", 6_000 // scale, 10, history=False), 1
    yield "chain of 10 coroutines", Load("async10", 2_400 // scale, 10), 1
    yield "diamond with a route", Load("diamond", 4_000 // scale, 3), 1
    leaves = 2**TREE_DEPTH
    yield "subflow tree", Load(f"tree{TREE_DEPTH}", 200 // scale, leaves + 2 * (leaves - 1), 2 * (leaves - 1)), 1
    yield "chain of 100, 1 kB read", Load("context100", 100, 100, context={"small": "x" * 1000}), 1
    large = {"small": "x" * 1000, "big": "y" * 10_000_000}
    yield "the same with a context of 10 MB", Load("context100", 100, 100, context=large), 1
    yield "chain of 10, 1,000 queued", Load("chain10", 1_000, 10, one_by_one=False), 1
    if not quick:
        yield "chain of 10, 100,000 queued", Load("chain10", 100_000, 10, one_by_one=False), 1


def peers(on: Server, quick: bool) -> Iterator[tuple[str, Callable[[], float | None]]]:
    """(name, measurement) of the peers that are there."""
    python, folder = installed.python_peers(), installed.original()
    for name, threads, processes in (
        (HUEY, 1, 1),
        ("bare Huey, 4 threads", 4, 1),
        ("bare Huey, 2 processes", 1, 2),
    ):
        yield name, lambda t=threads, p=processes: _huey(on, t, p)  # type: ignore[misc]
    runs = 100 if quick else 300
    if folder is not None:
        for name, (graph, processes) in ORIGINALS.items():
            yield name, lambda g=graph, p=processes: _original(on, folder, g, runs, p)  # type: ignore[misc]
    if python is not None:
        yield "Celery, chain of 10, prefork 2", lambda: _rate(installed.celery(python, on.url, runs // 2, 10))
        yield "DBOS on SQLite, 10 steps", lambda: _rate(installed.dbos(python, runs // 4, 10))


def _huey(on: Server, threads: int, processes: int) -> float:
    link = StoreLink(on.url)
    rate = rate_of_huey(link, threads, processes)
    link.close()
    return rate


def _original(on: Server, folder: Any, graph: str, runs: int, processes: int) -> float | None:
    link = StoreLink(on.url)
    link.redis.flushall()
    link.close()
    found = installed.run_original(folder, on.port, "throughput", graph, runs, processes)
    return found["nodes/s"] if found else None


def _rate(figures: dict[str, float] | None) -> float | None:
    return figures["tasks/s"] if figures else None


class Rounds:
    """What has been measured, by name: ours and the peers."""

    def __init__(self, quick: bool, only: list[str]) -> None:
        self.ours: dict[str, list[Measured]] = defaultdict(list)
        self.peers: dict[str, list[float]] = defaultdict(list)
        self._quick = quick
        self._only = only

    def take(self, on: Server, *, first: bool) -> None:
        """Measure once all that is to be measured on a server; on another than the first one just `ON_BOTH`."""

        def wanted(name: str) -> bool:
            if not first and name not in ON_BOTH:
                return False
            return not self._only or name == HUEY or any(word in name for word in self._only)

        position = "" if first else f", {on.name}"
        for name, load, processes in loads(self._quick):
            if wanted(name):
                self.ours[name + position].append(measure(on, load, processes))
        for name, rate in peers(on, self._quick):
            if wanted(name) and (found := rate()) is not None:
                self.peers[name + position].append(found)


def main() -> None:
    """Measure all rounds, each of them ours and theirs in turn."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--awake", action="store_true", help="keep all processors awake meanwhile")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", nargs="*", default=[])
    chosen = arguments.parse_args()
    rounds = Rounds(chosen.quick, chosen.only)
    with ExitStack() as stack:
        servers = [stack.enter_context(server(binary)) for binary in binaries()]
        state = stack.enter_context(processors(chosen.awake))
        for _ in range(1 if chosen.quick else chosen.rounds):
            for number, on in enumerate(servers):
                rounds.take(on, first=number == 0)
    show(f"{servers[0].name}, {state}", rounds.ours, rounds.peers)
    write("throughput", {
        "server": servers[0].name, "state": state,
        "ours": {name: [vars(each) for each in found] for name, found in rounds.ours.items()}, "peers": rounds.peers,
    })  # fmt: skip


if __name__ == "__main__":
    main()
