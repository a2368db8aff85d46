"""Runs of one graph on saturated workers: how fast, and what a node costs in calls, processor time and memory."""

import secrets
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.setting import cpu_seconds, prepare, release, workers
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink

BATCH = 50
THREADS = 4
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


@dataclass(frozen=True)
class Load:
    """So many runs of a graph.

    Attributes:
        nodes: of one run, those of its children included.
        context: of each run.
        queued: runs that lie in the queue before the workers begin; all of them if not given.
        history: whether runs keep their events.
    """

    graph: str
    runs: int
    nodes: int
    context: Mapping[str, Any] | None = None
    history: bool = True


@dataclass(frozen=True)
class Measured:
    """One measurement. Calls are counted by the server: `reads` are its reads from sockets, which a pipeline shares."""

    nodes_per_s: float
    scripts: float
    commands: float
    reads: float
    worker_cpu_us: float
    server_cpu_us: float
    bytes_in_flight: float
    bytes_finished: float


def start_all(link: StoreLink, keys: Keys, load: Load) -> None:
    """Queue the runs, as the SDK's start does, in pipelines."""
    context = {key: wire.dumps(value) for key, value in (load.context or {}).items()}
    for first in range(0, load.runs, BATCH):
        link.send(
            [
                scripts.start(
                    keys, token="b", run_id=secrets.token_hex(13), blueprint_id=load.graph, digest="", context=context
                )
                for _ in range(min(BATCH, load.runs - first))
            ]
        )  # fmt: skip


def measure(
    link: StoreLink, keys: Keys, server_pid: int, load: Load, processes: int, module: str = "benchmarks.worker"
) -> Measured:
    """Queue the runs, let fresh worker processes begin, and wait until all have ended."""
    link.redis.flushall()
    prepare(link, keys, history=load.history)
    ended = keys.index_status("completed")
    with workers(module, link.url, THREADS, processes=processes, begin=False) as children:
        start_all(link, keys, Load("chain3", 60, 3))
        empty = link.redis.info("memory")["used_memory"]
        start_all(link, keys, load)
        in_flight = link.redis.info("memory")["used_memory"] - empty
        release(children)
        while link.redis.zcard(ended) < 60:  # plans are loaded, scripts known, the pace learned
            time.sleep(0.001)
        link.redis.config_resetstat()
        begun_at = link.redis.zcard(ended)
        done = int(link.redis.eval(NODES_DONE, 1, keys.index_status("running"), keys.run("")))
        cpu = [cpu_seconds(child.pid) for child in children], cpu_seconds(server_pid)
        begin = time.perf_counter()
        while any(link.redis.zcard(keys.index_status(status)) for status in LIVE):
            if time.perf_counter() - begin > PATIENCE:
                raise TimeoutError(f"{load.graph}: {link.redis.zcard(ended)} runs have completed, then no more")
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        nodes = (link.redis.zcard(ended) - begun_at) * load.nodes / _runs_of(load) - done
        worker = sum(cpu_seconds(child.pid) for child in children) - sum(cpu[0])
        server = cpu_seconds(server_pid) - cpu[1]
        stats, calls = link.redis.info("stats"), link.redis.info("commandstats")
        finished = link.redis.info("memory")["used_memory"] - empty
    return Measured(
        nodes_per_s=nodes / seconds,
        scripts=calls["cmdstat_evalsha"]["calls"] / nodes,
        commands=sum(row["calls"] for row in calls.values()) / nodes,
        reads=stats["total_reads_processed"] / nodes,
        worker_cpu_us=worker / nodes * 1e6,
        server_cpu_us=server / nodes * 1e6,
        bytes_in_flight=in_flight / load.runs,
        bytes_finished=finished / load.runs,
    )


def _runs_of(load: Load) -> int:
    """Runs that one start makes: itself and its children."""
    return 2 ** (int(load.graph[4:]) + 1) - 1 if load.graph.startswith("tree") else 1


def median(values: list[Measured], figure: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(value, figure) for value in values)
