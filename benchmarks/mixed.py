"""Quick nodes beside slow ones: how long a node of 1 ms waits for its begin while three of four threads run nodes of 2 s.

Quick runs come at random moments, a hundred a second, for ten seconds. The clock begins before `Client.start` is called.
"""

import random
import threading
import time

from rich.console import Console
from rich.table import Table

from benchmarks.report import write
from benchmarks.setting import NAMESPACE, percentile, store, workers
from flowcraft_sdk import Client

THREADS = 4
SLOW = THREADS - 1
SECONDS = 10.0
PER_SECOND = 100
PERCENTS = (50, 95, 99)


def keep_busy(client: Client, until: float) -> None:
    """One slow node after the other."""
    while time.monotonic() < until:
        client.start("slow").result(timeout=30)


def delays(client: Client) -> list[float]:
    """Milliseconds from each quick run's start to the begin of its node."""
    chance = random.Random(7)
    until = time.monotonic() + SECONDS
    slow = [threading.Thread(target=keep_busy, args=(client, until)) for _ in range(SLOW)]
    for thread in slow:
        thread.start()
    started = []
    while time.monotonic() < until:
        begin = time.monotonic()
        started.append((begin, client.start("brief")))
        time.sleep(chance.expovariate(PER_SECOND))
    for thread in slow:
        thread.join()
    return [(handle.result(timeout=30)["n0"] - begin) * 1000 for begin, handle in started]


def main() -> None:
    """Measure and print."""
    with (
        store() as (link, _),
        workers("benchmarks.worker", link.url, THREADS),
        Client(link.url, namespace=NAMESPACE) as client,
    ):
        for _ in range(30):
            client.start("brief").result(timeout=30)
        found = delays(client)
    figures = {f"p{percent}": percentile(found, percent) for percent in PERCENTS}
    title = f"{len(found)} nodes of 1 ms while {SLOW} of {THREADS} threads run nodes of 2 s: ms from start to begin"
    table = Table(*figures, title=title)
    table.add_row(*[f"{value:.2f}" for value in figures.values()])
    Console(width=110).print(table)
    write("mixed", {"ms": figures, "nodes": len(found)})


if __name__ == "__main__":
    main()
