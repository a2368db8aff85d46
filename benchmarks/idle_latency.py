"""Start to result of a 3-node chain on an idle server: ours, three tasks on bare Huey, and the original, in turn.

Twice: with processors that may sleep, and with processors that are kept awake.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import installed
from benchmarks.peers.huey_worker import build
from benchmarks.report import write
from benchmarks.server import Server, processors, server
from benchmarks.setting import NAMESPACE, percentile, prepare, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

ROUNDS = 3
TIMES = 300
WARM_UP = 100
SETTLING = 2.0
"""Seconds that worker processes get to come to rest, as those of the original do in its program."""

PERCENTS = (50, 95, 99)
OURS = "flowcraft, 3 functions"
ORIGINAL = "the original, looked at each 1 ms"


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
    """Through the SDK: a start, and the result as soon as it is reported."""
    with workers("benchmarks.worker", url, 4), Client(url, namespace=NAMESPACE) as client:
        time.sleep(SETTLING)
        return {
            OURS: each(lambda: client.start("chain3").result(timeout=10), times),
            "flowcraft, 3 coroutines": each(lambda: client.start("async3").result(timeout=10), times),
            "flowcraft, 3 that report progress": each(lambda: client.start("reporting3").result(timeout=10), times),
        }


def theirs(url: str, times: int) -> dict[str, list[float]]:
    """Bare Huey with results and their notification on."""
    huey = build(url, True)
    with workers("benchmarks.peers.huey_worker", url, 4, "results"):
        time.sleep(SETTLING)

        def pipeline() -> None:
            huey.enqueue(huey.noop.s().then(huey.noop).then(huey.noop)).get(blocking=True, timeout=10)

        return {"bare Huey, pipeline of 3": each(pipeline, times)}


def original(folder: Path, on: Server, times: int, *, as_its_example: bool) -> dict[str, list[float]]:
    """The original. It has no client: looked at each millisecond, and each 500 ms, as the program of its example does."""
    rows = {}
    for pause, rounds in ((1, times), (500, times // 20)) if as_its_example else ((1, times),):
        found = installed.run_original(folder, on.port, "latency", rounds, pause)
        if found:
            rows[ORIGINAL if pause == 1 else f"the original, looked at each {pause} ms"] = list(found["taken"])
    return rows


def measured(on: Server, folder: Path | None, rounds: int, *, awake: bool) -> dict[str, list[float]]:
    """Milliseconds by who was measured."""
    rows: dict[str, list[float]] = defaultdict(list)
    link, keys = StoreLink(on.url), Keys(NAMESPACE)
    for _ in range(rounds):
        link.redis.flushall()
        prepare(link, keys)
        found = ours(on.url, TIMES) | theirs(on.url, TIMES)
        if folder is not None:
            found |= original(folder, on, TIMES, as_its_example=not awake)
        for name, taken in found.items():
            rows[name] += taken
    link.close()
    return rows


def figures_of(taken: list[float]) -> dict[str, float]:
    """Mean and percentiles."""
    return {"mean": statistics.mean(taken)} | {f"p{p}": percentile(taken, p) for p in PERCENTS}


def main() -> None:
    """Measure in turn, print, and keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one round, and with processors that may sleep only")
    quick = arguments.parse_args().quick
    rounds = 1 if quick else ROUNDS
    folder = installed.original()
    if folder is None:
        print("The original is left out: it could not be installed (it needs Node and npm).")
    report = {}
    with server() as on:
        for awake in (False,) if quick else (False, True):
            with processors(awake) as state:
                rows = measured(on, folder, rounds, awake=awake)
            figures = {name: figures_of(taken) for name, taken in rows.items()}
            report[state] = figures
            title = f"{on.name}, {state}; start to result, {rounds} x {TIMES}, in turn"
            table = Table("what", "mean ms", *[f"p{p} ms" for p in PERCENTS], title=title)
            for name, row in figures.items():
                table.add_row(name, *[f"{value:.2f}" for value in row.values()])
            Console(width=110).print(table)
    write("idle_latency", {"server": on.name, "times": rounds * TIMES, "ms": report})


if __name__ == "__main__":
    main()
