"""Ours and the peers side by side, interleaved, on one server: `python -m benchmarks.throughput [--quick] [--only WORD ...]`.

Prints a table and writes benchmarks/results/throughput.json. Who cannot be installed is left out, and said.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.graphs import Load, Measured, measure, median
from benchmarks.peers import installed
from benchmarks.peers.bare_huey import rate_of_huey
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, TREE_DEPTH, server
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink


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
    yield "subflow tree", Load(f"tree{TREE_DEPTH}", 200 // scale, 2**TREE_DEPTH + 2 * (2**TREE_DEPTH - 1)), 1
    yield "chain of 100, 1 kB read", Load("context100", 100, 100, {"small": "x" * 1000}), 1
    yield (
        "the same with a context of 10 MB",
        Load("context100", 100, 100, {"small": "x" * 1000, "big": "y" * 10_000_000}),
        1,
    )
    yield "chain of 10, 1,000 queued", Load("chain10", 1_000, 10), 1
    if not quick:
        yield "chain of 10, 100,000 queued", Load("chain10", 100_000, 10), 1


def peers(link: StoreLink, quick: bool) -> Iterator[tuple[str, Callable[[], float | None]]]:
    """(name, measurement) of the peers that are there."""
    port = int(link.url.rpartition(":")[2].partition("/")[0])
    python, folder = installed.python_peers(), installed.original()
    for threads, processes in ((1, 1), (4, 1), (1, 2)):
        yield (
            f"bare Huey, {threads} thread(s), {processes} process(es)",
            lambda t=threads, p=processes: rate_of_huey(link, t, p),
        )  # type: ignore[misc]
    runs = 100 if quick else 300
    if folder is not None:
        for graph, processes in (("chain10", 1), ("chain10", 2), ("fan20", 1), ("fan20", 2)):

            def original(graph: str = graph, processes: int = processes) -> float | None:
                link.redis.flushall()
                found = installed.run_original(folder, port, "throughput", graph, runs, processes)
                return found["nodes/s"] if found else None

            yield f"the original, {graph}, {processes} process(es)", original
    if python is not None:
        yield "Celery, chain of 10, prefork 2", lambda: _rate(installed.celery(python, link.url, runs // 2, 10))
        yield "DBOS on SQLite, 10 steps", lambda: _rate(installed.dbos(python, runs // 4, 10))


def _rate(figures: dict[str, float] | None) -> float | None:
    return figures["tasks/s"] if figures else None


def show(what: str, ours: dict[str, list[Measured]], others: dict[str, list[float]]) -> None:
    """Print the tables."""
    one = statistics.median(others["bare Huey, 1 thread(s), 1 process(es)"])
    table = Table(title=f"{what}; nodes or tasks a second, median of the rounds (least to most)")
    for column in (
        "",
        "a second",
        "x Huey",
        "scripts",
        "commands",
        "reads",
        "worker us",
        "server us",
        "bytes live",
        "bytes ended",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name, rates in others.items():
        table.add_row(
            name,
            f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
            f"{statistics.median(rates) / one:.1f}",
        )
    for name, found in ours.items():
        rates = [each.nodes_per_s for each in found]
        figures = [f"{median(found, figure):.2f}" for figure in ("scripts", "commands", "reads")]
        figures += [
            f"{median(found, figure):,.0f}"
            for figure in ("worker_cpu_us", "server_cpu_us", "bytes_in_flight", "bytes_finished")
        ]
        rate = statistics.median(rates)
        table.add_row(name, f"{rate:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})", f"{rate / one:.1f}", *figures)
    Console(width=170).print(table)


def main() -> None:
    """Measure all rounds, each of them ours and theirs in turn."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", nargs="*", default=[])
    chosen = arguments.parse_args()
    ours: dict[str, list[Measured]] = defaultdict(list)
    others: dict[str, list[float]] = defaultdict(list)

    def wanted(name: str) -> bool:
        return (
            not chosen.only or name.startswith("bare Huey, 1 thread(s), 1") or any(word in name for word in chosen.only)
        )

    with server() as (url, pid, what):
        link, keys = StoreLink(url), Keys(NAMESPACE)
        for _ in range(1 if chosen.quick else chosen.rounds):
            for name, load, processes in loads(chosen.quick):
                if wanted(name):
                    ours[name].append(measure(link, keys, pid, load, processes))
            for name, rate in peers(link, chosen.quick):
                if wanted(name) and (found := rate()) is not None:
                    others[name].append(found)
        link.close()
    show(what, ours, others)
    report: dict[str, Any] = {
        "server": what, "ours": {name: [vars(each) for each in found] for name, found in ours.items()}, "peers": others
    }  # fmt: skip
    write("throughput", report)


if __name__ == "__main__":
    main()
