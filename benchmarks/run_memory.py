"""What a run takes in Redis, key by key, queued and ended, with and without history.

`MEMORY USAGE ... SAMPLES 0` counts every element of a key, and nothing of the server's buffers and caches.
"""

from collections import defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.graphs import Load, start_all
from benchmarks.report import write
from benchmarks.setting import NAMESPACE, prepare, server, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

RUNS = 200
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
        kind = "events" if rest.endswith(":events") else "run" if rest.startswith("run:") else "shared"
        kinds[kind] += of_keys(link, [name]) / runs
    return dict(kinds)


def measured(link: StoreLink, keys: Keys, load: Load) -> tuple[dict[str, float], dict[str, float]]:
    """A run's bytes when queued and when ended."""
    link.redis.flushall()
    prepare(link, keys, history=load.history)
    start_all(link, keys, load)
    queued = a_run(link, keys, load.runs)
    with workers("benchmarks.worker", link.url, 4), Client(link.url, namespace=NAMESPACE) as client:
        for run_id in link.redis.zrange(keys.index_blueprint(load.graph), 0, -1):
            client.get_handle(run_id.decode() if isinstance(run_id, bytes) else run_id).result(timeout=60)
    return queued, a_run(link, keys, load.runs)


def main() -> None:
    """Measure and print."""
    columns = ("what", "when", "hash", "events", "share of indexes and queue", "bytes a run")
    report = {}
    with server() as (url, _, what):
        table = Table(
            *columns, title=f"{what}; MEMORY USAGE SAMPLES 0, {RUNS} runs of no-op nodes that pass on their input"
        )
        link, keys = StoreLink(url), Keys(NAMESPACE)
        for name, load in LOADS:
            queued, ended = measured(link, keys, load)
            report[name] = {"queued": queued, "ended": ended}
            for when, found in (("queued", queued), ("ended", ended)):
                parts = [found.get(kind, 0.0) for kind in ("run", "events", "shared")]
                table.add_row(name, when, *[f"{part:,.0f}" for part in (*parts, sum(parts))])
        link.close()
    Console(width=130).print(table)
    write("run_memory", {"server": what, "runs": RUNS, "bytes": report})


if __name__ == "__main__":
    main()
