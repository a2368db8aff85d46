"""A `map` over 100, 1,000 and 10,000 items with 100 live at once: time, and engine scripts an item, which stay constant."""

import time

from rich.console import Console
from rich.table import Table

from benchmarks.report import write
from benchmarks.setting import NAMESPACE, store, workers
from flowcraft_sdk import Client

SIZES = (100, 1_000, 10_000)
LIVE = 100
"""As in `benchmarks.setting.MAP`."""

ROUNDS = 3
GRAPH = {
    "id": "map",
    "nodes": [{"id": "m", "uses": "map", "inputs": "items", "params": {"uses": "echo", "chunkSize": LIVE}}],
}


def main() -> None:
    """Measure and print."""
    table = Table(
        "items", "seconds", "items/s", "us an item", "scripts an item", title=f"map, {LIVE} live at once, 1 process"
    )
    us, scripts = {}, {}
    with (
        store() as (link, _),
        workers("benchmarks.worker", link.url, 4),
        Client(link.url, namespace=NAMESPACE) as client,
    ):
        client.start("map", {"items": list(range(1000))}).result(timeout=60)
        for size in SIZES:
            taken, calls = [], 0
            for _ in range(ROUNDS):
                link.redis.config_resetstat()
                begin = time.perf_counter()
                result = client.start("map", {"items": list(range(size))}).result(timeout=120)
                taken.append(time.perf_counter() - begin)
                assert result["m"] == list(range(size))
                calls = link.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
            seconds = sorted(taken)[ROUNDS // 2]
            us[str(size)], scripts[str(size)] = seconds / size * 1e6, calls / size
            table.add_row(
                f"{size:,}",
                f"{seconds:.2f}",
                f"{size / seconds:,.0f}",
                f"{us[str(size)]:.0f}",
                f"{scripts[str(size)]:.3f}",
            )
    Console().print(table)
    write("map_items", {"live": LIVE, "us": us, "scripts": scripts})


if __name__ == "__main__":
    main()
