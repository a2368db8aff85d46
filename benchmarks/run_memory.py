"""What a run takes in Redis, key by key, queued and ended, with and without history.

`MEMORY USAGE ... SAMPLES 0` counts every element of a key, and nothing of the server's buffers and caches. Beside it stands how
much more memory the server uses with the runs than without, which is all of it: what its allocator rounds up, too.
"""

import time
from collections import defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.graphs import SETTLED, Load, memory_of, start_all
from benchmarks.report import write
from benchmarks.server import server
from benchmarks.setting import NAMESPACE, prepare, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink

RUNS = 2_000
WARM_UP = 100
LOADS = (
    ("chain of 10", Load("chain10", RUNS, 10)),
    ("chain of 10, history off", Load("chain10", RUNS, 10, history=False)),
    ("1->20->1", Load("fan20", RUNS, 22)),
    ("1->20->1, history off", Load("fan20", RUNS, 22, history=False)),
)


def of_keys(link: StoreLink, names: Iterable[str]) -> int:
    """Bytes that these keys take, every element counted."""
    return sum(link.redis.memory_usage(name, samples=0) or 0 for name in names)


def a_run(link: StoreLink, keys: Keys, runs: int) -> dict[str, float]:
    """Bytes a run of its own keys (hash, events, batches), and its share of what all runs share (indexes, queue, timers)."""
    kinds: dict[str, float] = defaultdict(float)
    for raw in link.redis.scan_iter(f"{keys.base}*", count=1000):
        name = raw.decode() if isinstance(raw, bytes) else raw
        rest = name.removeprefix(keys.base)
        if rest.startswith(("plan", "worker", "blueprints", "settings", "stats", "protocol")):
            continue  # what a deployment has once
        family = rest.partition(":")[0]
        kind = family if family in ("run", "events", "batch") else "shared"
        kinds[kind] += of_keys(link, [name]) / runs
    return dict(kinds)


def work_off(link: StoreLink, keys: Keys, graph: str) -> None:
    """Have workers run what is queued, and wait until they have gone."""
    with workers("benchmarks.worker", link.url, 4), Client(link.url, namespace=NAMESPACE) as client:
        for run_id in link.redis.zrange(keys.index_blueprint(graph), 0, -1):
            client.get_handle(run_id.decode() if isinstance(run_id, bytes) else run_id).result(timeout=60)
    time.sleep(SETTLED)


def measured(link: StoreLink, keys: Keys, load: Load) -> tuple[dict[str, float], dict[str, float]]:
    """A run's bytes when queued and when ended; of ended ones also by what the `server` uses."""
    link.redis.flushall()
    prepare(link, keys, history=load.history)
    start_all(link, Partitions(NAMESPACE), Load("chain3", WARM_UP, 3))
    work_off(link, keys, "chain3")
    empty, there = memory_of(link), a_run(link, keys, load.runs)
    start_all(link, Partitions(NAMESPACE), load)
    queued = a_run(link, keys, load.runs)
    work_off(link, keys, load.graph)
    grown, ended = (memory_of(link) - empty) / load.runs, a_run(link, keys, load.runs)
    for kinds in (queued, ended):
        for kind in kinds:
            kinds[kind] -= there.get(kind, 0.0)
    return queued, ended | {"server": grown}


def main() -> None:
    """Measure and print."""
    columns = (
        "what",
        "when",
        "hash",
        "events",
        "batches",
        "share of indexes and queue",
        "bytes a run",
        "by the server",
    )
    report = {}
    with server() as running:
        table = Table(
            *columns,
            title=f"{running.name}; MEMORY USAGE SAMPLES 0, {RUNS} runs of no-op nodes that pass on their input",
        )
        link, keys = StoreLink(running.url), Keys(NAMESPACE)
        for name, load in LOADS:
            queued, ended = measured(link, keys, load)
            report[name] = {"queued": queued, "ended": ended, "server": ended["server"]}
            for when, found in (("queued", queued), ("ended", ended)):
                parts = [found.get(kind, 0.0) for kind in ("run", "events", "batch", "shared")]
                by_server = f"{found['server']:,.0f}" if "server" in found else ""
                table.add_row(name, when, *[f"{part:,.0f}" for part in (*parts, sum(parts))], by_server)
        link.close()
    Console(width=130).print(table)
    write("run_memory", {"server": running.name, "runs": RUNS, "bytes": report})


if __name__ == "__main__":
    main()
