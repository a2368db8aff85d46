"""Runs of one graph on saturated workers: how fast, and what a node costs in calls, processor time and memory."""

import secrets
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from benchmarks.server import Server
from benchmarks.setting import NAMESPACE, cpu_seconds, prepare, release, workers
from flowcraft_sdk import Client
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink

BATCH = 50
THREADS = 4
WARM_UP = 60
LIVE = ("queued", "running", "waiting")
NODES_DONE = """
local done = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local fields = redis.call('HGETALL', ARGV[1] .. id)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'n:' and string.sub(fields[i + 1], 1, 1) == 'C' then done = done + 1 end
  end
end
return done
"""
"""How many nodes of runs under way have completed."""

PATIENCE = 600.0
"""Seconds after which a measurement whose runs do not end is given up."""

SETTLED = 0.3
"""Seconds that the server gets to let go of what its clients have left."""


@dataclass(frozen=True)
class Load:
    """So many runs of a graph, all of which lie in the queue before the workers begin.

    Attributes:
        nodes: of one run, those of its children included.
        children: runs that one run starts, theirs included.
        context: of each run.
        history: whether runs keep their events.
        one_by_one: whether `Client.start` starts each; else pipelines do, in less time.
    """

    graph: str
    runs: int
    nodes: int
    children: int = 0
    context: Mapping[str, Any] = field(default_factory=dict)
    history: bool = True
    one_by_one: bool = True


@dataclass(frozen=True)
class Measured:
    """One measurement. Calls are counted by the server: `reads` are its reads from sockets, which a pipeline shares.

    Attributes:
        client_cpu_us: of the program that starts the runs; None where pipelines did.
        bytes_finished: what the server holds when the workers have gone.
    """

    nodes_per_s: float
    runs_per_s: float
    scripts: float
    commands: float
    reads: float
    worker_cpu_us: float
    server_cpu_us: float
    client_cpu_us: float | None
    bytes_in_flight: float
    bytes_finished: float


def start_all(link: StoreLink, partitions: Partitions, load: Load) -> None:
    """Queue the runs."""
    if load.one_by_one:
        with Client(link.url, namespace=NAMESPACE) as client:
            for _ in range(load.runs):
                client.start(load.graph, load.context)
        return
    for first in range(0, load.runs, BATCH):
        run_ids = [secrets.token_hex(13) for _ in range(min(BATCH, load.runs - first))]
        link.send(
            [
                scripts.start(
                    partitions.for_run(run_id), token="b", run_id=run_id, blueprint_id=load.graph, digest="", context={}
                )
                for run_id in run_ids
            ]
        )


def measure(
    server: Server,
    load: Load,
    processes: int,
    module: str = "benchmarks.worker",
    *,
    partitions: int = 1,
    beside: Callable[[StoreLink], AbstractContextManager[None]] = lambda _link: nullcontext(),
) -> Measured:
    """Queue the runs, let fresh worker processes begin, and wait until all have ended.

    Args:
        beside: what there is besides from before the workers begin until they have ended.
    """
    link, some = StoreLink(server.url), Partitions(NAMESPACE, partitions)
    link.redis.flushall()
    prepare(link, some.home, history=load.history, partitions=partitions)
    start_all(link, some, Load("chain3", WARM_UP, 3))
    empty = memory_of(link)
    begin = time.process_time()
    start_all(link, some, load)
    client = time.process_time() - begin
    in_flight = memory_of(link) - empty
    words = (link.url, THREADS, *([partitions] if partitions > 1 else []))
    with workers(module, *words, processes=processes, begin=False) as children, beside(link):
        figures = _work_off(link, some, server.pid, load, children)
    time.sleep(SETTLED)
    finished = memory_of(link) - empty
    link.close()
    return Measured(
        **figures,
        client_cpu_us=client / (load.runs * load.nodes) * 1e6 if load.one_by_one else None,
        bytes_in_flight=in_flight / load.runs,
        bytes_finished=finished / load.runs,
    )


def _work_off(
    link: StoreLink, partitions: Partitions, server_pid: int, load: Load, children: Sequence["subprocess.Popen[bytes]"]
) -> dict[str, float]:
    def listed(status: str) -> int:
        return sum(link.read_all([("ZCARD", keys.index_status(status)) for keys in partitions.all]))

    release(children)
    while listed("completed") < WARM_UP:  # plans are loaded, scripts known, the pace learned
        time.sleep(0.001)
    link.redis.config_resetstat()
    begun_at = listed("completed")
    done = sum(
        int(link.redis.eval(NODES_DONE, 1, keys.index_status("running"), keys.run(""))) for keys in partitions.all
    )
    pids = [child.pid for child in children]
    worker, server = sum(map(cpu_seconds, pids)), cpu_seconds(server_pid)
    begin = time.perf_counter()
    while any(listed(status) for status in LIVE):
        if time.perf_counter() - begin > PATIENCE:
            raise TimeoutError(f"{load.graph}: {listed('completed')} runs have completed, then no more")
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    nodes = (listed("completed") - begun_at) * load.nodes / (1 + load.children) - done
    stats, calls = link.redis.info("stats"), link.redis.info("commandstats")
    return {
        "nodes_per_s": nodes / seconds,
        "runs_per_s": nodes / load.nodes / seconds,
        "scripts": calls["cmdstat_evalsha"]["calls"] / nodes,
        "commands": sum(row["calls"] for row in calls.values()) / nodes,
        "reads": stats["total_reads_processed"] / nodes,
        "worker_cpu_us": (sum(map(cpu_seconds, pids)) - worker) / nodes * 1e6,
        "server_cpu_us": (cpu_seconds(server_pid) - server) / nodes * 1e6,
    }


def memory_of(link: StoreLink) -> int:
    """Bytes that the server uses."""
    return int(link.redis.info("memory")["used_memory"])


def median(values: list[Measured], figure: str) -> float | None:
    """The median of one figure, None if it was not taken."""
    found = [getattr(value, figure) for value in values]
    return None if None in found else statistics.median(found)
