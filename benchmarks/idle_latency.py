"""Start to result of a 3-node chain on an idle server: ours, three tasks on bare Huey, and the original, in turn."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import installed
from benchmarks.peers.huey_worker import build
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, percentile, prepare, server, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

ROUNDS = 3
TIMES = 150
WARM_UP = 30
PERCENTS = (50, 95, 99)


def each(once: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each time, after a warm-up."""
    for _ in range(WARM_UP):
        once()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        once()
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def ours(url: str, times: int) -> dict[str, list[float]]:
    """Through the SDK: a start, and the result as soon as it is told."""
    with workers("benchmarks.worker", url, 4), Client(url, namespace=NAMESPACE) as client:
        return {
            "flowcraft, 3 functions": each(lambda: client.start("chain3").result(timeout=10), times),
            "flowcraft, 3 coroutines": each(lambda: client.start("async3").result(timeout=10), times),
            "flowcraft, 3 that report progress": each(lambda: client.start("reporting3").result(timeout=10), times),
        }


def theirs(url: str, times: int) -> dict[str, list[float]]:
    """Bare Huey with results and their notification on."""
    huey = build(url, True)
    with workers("benchmarks.peers.huey_worker", url, 4, "results"):

        def pipeline() -> None:
            huey.enqueue(huey.noop.s().then(huey.noop).then(huey.noop)).get(blocking=True, timeout=10)

        return {"bare Huey, pipeline of 3": each(pipeline, times)}


def original(folder: Path, url: str, times: int) -> dict[str, list[float]]:
    """The original. It has no client: looked at each millisecond, and each 500 ms, as the program of its example does."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    rows = {}
    for pause, rounds in ((1, times), (500, times // 10)):
        found = installed.run_original(folder, port, "latency", rounds, pause)
        if found:
            rows[f"the original, looked at each {pause} ms"] = list(found["taken"])
    return rows


def main() -> None:
    """Measure in turn, print, and keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    rounds = 1 if arguments.parse_args().quick else ROUNDS
    rows: dict[str, list[float]] = defaultdict(list)
    folder = installed.original()
    with server() as (url, _, what):
        link, keys = StoreLink(url), Keys(NAMESPACE)
        for _ in range(rounds):
            link.redis.flushall()
            prepare(link, keys)
            found = ours(url, TIMES) | theirs(url, TIMES)
            if folder is not None:
                found |= original(folder, url, TIMES)
            for name, taken in found.items():
                rows[name] += taken
        link.close()
    figures = {name: {f"p{p}": percentile(taken, p) for p in PERCENTS} for name, taken in rows.items()}
    table = Table(
        "what", *[f"p{p} ms" for p in PERCENTS], title=f"{what}; start to result, {rounds} x {TIMES}, in turn"
    )
    for name, row in figures.items():
        table.add_row(name, *[f"{value:.2f}" for value in row.values()])
    if folder is None:
        print("The original is left out: it could not be installed (it needs Node and npm).")
    Console(width=110).print(table)
    write("idle_latency", {"server": what, "times": rounds * TIMES, "ms": figures})


if __name__ == "__main__":
    main()
