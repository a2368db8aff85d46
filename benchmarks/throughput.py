"""Nodes per second when saturated, beside bare Huey's no-op tasks, interleaved in one run."""

import secrets
import statistics
import time

from rich.console import Console
from rich.table import Table

from benchmarks.huey_worker import build
from benchmarks.setting import store, workers
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

ROUNDS = 3
CASES = (("chain10", 600, 10), ("fan20", 200, 22))
TASKS = 3_000


def run_graph(link: StoreLink, keys: Keys, blueprint: str, runs: int) -> dict[str, float]:
    """Seconds for all runs to end, with the script calls and bytes they took."""
    memory = link.redis.info("memory")["used_memory"]
    link.redis.config_resetstat()
    before = link.redis.zcard(keys.index_status("completed"))
    begin = time.perf_counter()
    for first in range(0, runs, 50):
        link.send(
            [
                scripts.start(
                    keys,
                    token=secrets.token_hex(4),
                    run_id=secrets.token_hex(13),
                    blueprint_id=blueprint,
                    digest="",
                    context={},
                )
                for _ in range(min(50, runs - first))
            ]
        )
    while link.redis.zcard(keys.index_status("completed")) < before + runs:
        time.sleep(0.002)
    taken = time.perf_counter() - begin
    calls = link.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    return {"seconds": taken, "calls": calls, "bytes": (link.redis.info("memory")["used_memory"] - memory) / runs}


def run_huey(url: str) -> float:
    """Seconds for the tasks to be done; results off."""
    huey = build(url, False)
    begin = time.perf_counter()
    for _ in range(TASKS):
        huey.noop()
    while huey.pending_count():
        time.sleep(0.002)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    table = Table("workload", "processes", "per second", "against Huey", "scripts a node", "bytes a run")
    with store() as (link, keys):
        for processes in (1, 2):
            ours: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in CASES}
            peer = []
            for _ in range(ROUNDS):
                with workers("benchmarks.worker", link.url, processes, 4):
                    for name, runs, _ in CASES:
                        ours[name].append(run_graph(link, keys, name, runs))
                with workers("benchmarks.huey_worker", link.url, processes, 4):
                    peer.append(TASKS / run_huey(link.url))
            huey = statistics.median(peer)
            table.add_row("bare Huey, no-op tasks", str(processes), f"{huey:,.0f}", "1.0", "", "")
            for name, runs, nodes in CASES:
                rate = statistics.median(runs * nodes / row["seconds"] for row in ours[name])
                calls = statistics.median(row["calls"] / runs / nodes for row in ours[name])
                size = statistics.median(row["bytes"] for row in ours[name])
                table.add_row(
                    f"{name} x {runs}",
                    str(processes),
                    f"{rate:,.0f}",
                    f"{rate / huey:.1f}",
                    f"{calls:.2f}",
                    f"{size:,.0f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
