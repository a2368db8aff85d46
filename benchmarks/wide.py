"""Wide graphs: 1 -> N -> 1, N beginnings, branches not taken, cancelling; the longest script of each, by the log of the server.

`python -m benchmarks.wide [WIDTH ...]`
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write
from benchmarks.setting import NAMESPACE, fan, publish, store, workers
from flowcraft_sdk import Client, Handle
from flowcraft_server.store.link import StoreLink

WIDTHS = (50, 5_000, 20_000)
PROCESSES, THREADS = 2, 4
PATIENCE = 300.0
LOGGED_US = 1_000
"""Scripts that take longer are looked at, in microseconds."""


def starts(width: int) -> dict[str, Any]:
    """`width` nodes that nothing leads to, and one join."""
    names = [f"w{i}" for i in range(width)]
    return {
        "id": f"starts{width}",
        "nodes": [{"id": name, "uses": "echo"} for name in (*names, "j")],
        "edges": [{"source": name, "target": "j"} for name in names],
    }


def untaken(width: int) -> dict[str, Any]:
    """A node whose `width` successors are not taken, each with a chain of three behind it; one join, one other way to it."""
    nodes = [{"id": "s", "uses": "route"}, {"id": "x", "uses": "echo"}, {"id": "j", "uses": "echo"}]
    edges = [{"source": "s", "target": "x", "action": "x"}, {"source": "x", "target": "j"}]
    for i in range(width // 3):
        nodes += [{"id": f"{part}{i}", "uses": "echo"} for part in "abc"]
        edges += [{"source": "s", "target": f"a{i}", "action": "y"}, {"source": f"c{i}", "target": "j"}]
        edges += [{"source": f"{one}{i}", "target": f"{two}{i}"} for one, two in ("ab", "bc")]
    return {"id": f"untaken{width}", "nodes": nodes, "edges": edges}


def longest_script(link: StoreLink) -> float:
    """The longest call of a script since the log was emptied, ms."""
    entries: list[dict[str, Any]] = link.redis.slowlog_get(1_000)
    scripts = [entry["duration"] for entry in entries if entry["command"].startswith(b"EVALSHA")]
    return max(scripts, default=0) / 1000


def timed(link: StoreLink, run: Callable[[], Handle[Any]], wanted: str) -> tuple[float, float]:
    """Seconds until a run has ended, and its longest script in ms."""
    link.redis.slowlog_reset()
    begin = time.perf_counter()
    handle = run()
    handle.wait(timeout=PATIENCE)
    seconds = time.perf_counter() - begin
    assert handle.status() == wanted, handle.describe().failures
    return seconds, longest_script(link)


def stopped(client: Client, graph: str) -> Handle[Any]:
    """A run that is cancelled at once, most of its nodes ready."""
    handle = client.start(graph)
    handle.cancel(grace=0)
    return handle


def main() -> None:
    """Measure and print."""
    widths = [int(word) for word in sys.argv[1:]] or list(WIDTHS)
    table = Table("graph", "nodes", "s", "us a node", "longest script, ms", title="wide graphs, two worker processes")
    figures: dict[str, float] = {}
    with store() as (link, keys):
        link.redis.config_set("slowlog-log-slower-than", LOGGED_US)
        link.redis.config_set("slowlog-max-len", 1_000)
        graphs = [make(width) for width in widths for make in (lambda w: fan(f"fan{w}", w), starts, untaken)]
        publish(link, keys, graphs)
        sizes = {graph["id"]: len(graph["nodes"]) for graph in graphs}
        with Client(link.url, namespace=NAMESPACE) as client:
            rows: list[tuple[str, str, float, float]] = []
            with workers("benchmarks.worker", link.url, THREADS, processes=PROCESSES):
                client.start("chain3").result(timeout=10)
                for graph in sizes:
                    first = timed(link, lambda g=graph: client.start(g), "completed")
                    again = timed(link, lambda g=graph: client.start(g), "completed")
                    rows.append((graph, graph, min(first[0], again[0]), max(first[1], again[1])))
                    if graph.startswith("starts"):
                        cut = timed(link, lambda g=graph: stopped(client, g), "cancelled")
                        rows.append((f"{graph}, cancelled", graph, *cut))
    for name, graph, seconds, script in rows:
        table.add_row(
            name, f"{sizes[graph]:,}", f"{seconds:.2f}", f"{seconds / sizes[graph] * 1e6:.0f}", f"{script:.1f}"
        )
        figures[f"{name} s"], figures[f"{name} script ms"] = round(seconds, 3), round(script, 2)
    Console().print(table)
    write("wide", figures)


if __name__ == "__main__":
    main()
