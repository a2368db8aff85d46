"""Start to result of a 3-node chain on an idle server, beside a pipeline of three tasks on bare Huey."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks.peers.huey_worker import build
from benchmarks.setting import NAMESPACE, percentile, store, workers
from flowcraft_sdk import Client

ROUNDS = 300


def measure(once: Callable[[], None]) -> list[float]:
    """Milliseconds of each round, after a warm-up."""
    for _ in range(30):
        once()
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        once()
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def main() -> None:
    """Measure and print."""
    table = Table("what", "p50 ms", "p95 ms", "p99 ms", title=f"start to result, {ROUNDS} rounds")
    with store() as (link, _):
        rows: dict[str, list[float]] = {}
        with workers("benchmarks.worker", link.url, 4), Client(link.url, namespace=NAMESPACE) as client:
            rows["flowcraft, 3 functions"] = measure(lambda: client.start("chain3").result(timeout=10))
            rows["flowcraft, 3 coroutines"] = measure(lambda: client.start("async3").result(timeout=10))
        huey = build(link.url, True)
        with workers("benchmarks.peers.huey_worker", link.url, 4, "results"):
            rows["bare Huey, pipeline of 3"] = measure(
                lambda: huey.enqueue(huey.noop.s().then(huey.noop).then(huey.noop)).get(blocking=True, timeout=10)
            )
    for name, taken in rows.items():
        table.add_row(name, *[f"{percentile(taken, p):.2f}" for p in (50, 95, 99)])
    Console().print(table)


if __name__ == "__main__":
    main()
