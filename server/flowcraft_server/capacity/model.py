"""From a load to Redis nodes, memory and workers.

All of it is arithmetic over `constants.json`: processor time that a node costs Redis and workers, bytes that a run takes.
Little's law gives the nodes at work: rate times the seconds that one takes.
"""

import json
import math
from dataclasses import dataclass
from importlib.resources import files

REDIS_BUSY = 0.6
"""Share of a processor that a Redis node may be busy at peak: beyond it waiting grows faster than load."""

WORKER_BUSY = 0.7
MEMORY_USED = 0.7
"""Share of a Redis node's memory that data may take: the rest is for replication, buffers and saving."""

LEAST_PARTITIONS = 16
PARTITIONS_PER_PRIMARY = 4
MOST_PARTITIONS = 256
COROUTINES_PER_PROCESS = 500
"""Half of `executor.asyncConcurrency`'s default, so that a lost process can be made up for."""


@dataclass(frozen=True)
class Constants:
    """What was measured; times are microseconds of processor time."""

    measured_on: str
    redis_us_per_node: float
    worker_us_per_node: float
    bytes_per_run: float
    bytes_per_node: float
    history_bytes_per_run: float
    history_bytes_per_node: float


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Attributes:
        runs_per_second: on average.
        nodes: of a run.
        payload: bytes of a node's output.
        keep: seconds for which ended runs are kept.
        node_seconds: how long a node takes.
        run_seconds: how long a run takes; by default its nodes one after the other.
        peak: the highest rate, as a multiple of the average.
        history: whether runs keep their events.
        replicas: of each Redis primary.
        memory: bytes of a Redis node.
    """

    runs_per_second: float
    nodes: float
    payload: int
    keep: float
    node_seconds: float = 1.0
    run_seconds: float | None = None
    peak: float = 3.0
    history: bool = True
    replicas: int = 1
    memory: int = 16 * 1024**3


@dataclass(frozen=True)
class Needs:
    """What a load needs.

    Attributes:
        nodes_per_second: on average.
        peak_nodes_per_second: at the highest rate.
        redis_processors: busy at peak, of all primaries together.
        live_runs: that are under way at peak.
        kept_runs: that have ended and are kept.
        bytes_a_run: in Redis, once ended.
        history_bytes: of all that is kept, those of histories.
        memory: bytes of data in all primaries.
        primaries_for_processors: and `primaries_for_memory`: how many primaries each of them asks for.
        partitions: for `redis.partitions`; 1 where one primary does.
        nodes_at_work: nodes that run at the same time at peak.
        worker_processors: busy at peak with the engine's own work, all workers together.
        worker_processes: for nodes that are coroutines and wait, with 500 at work in each.
        threads: for nodes that are plain functions.
        network: bytes a second between Redis and workers at peak.
    """

    nodes_per_second: float
    peak_nodes_per_second: float
    redis_processors: float
    live_runs: float
    kept_runs: float
    bytes_a_run: float
    history_bytes: float
    memory: float
    primaries_for_processors: int
    primaries_for_memory: int
    partitions: int
    nodes_at_work: float
    worker_processors: float
    worker_processes: int
    threads: int
    network: float

    @property
    def primaries(self) -> int:
        """How many Redis primaries it takes."""
        return max(self.primaries_for_processors, self.primaries_for_memory)


def load_constants() -> Constants:
    """The constants that this release was measured with."""
    text = (files("flowcraft_server.capacity") / "constants.json").read_text("utf-8")
    return Constants(**json.loads(text))


def needs_of(load: Load, constants: Constants) -> Needs:
    """What a load needs, by these constants."""
    nodes_per_second = load.runs_per_second * load.nodes
    peak = nodes_per_second * load.peak
    run_seconds = load.nodes * load.node_seconds if load.run_seconds is None else load.run_seconds
    live, kept = load.runs_per_second * load.peak * run_seconds, load.runs_per_second * load.keep
    history = constants.history_bytes_per_run + load.nodes * constants.history_bytes_per_node if load.history else 0.0
    a_run = constants.bytes_per_run + load.nodes * (constants.bytes_per_node + load.payload) + history
    memory = (live + kept) * a_run
    redis_processors = peak * constants.redis_us_per_node / 1e6
    worker_processors = peak * constants.worker_us_per_node / 1e6
    for_processors = _at_least_one(redis_processors / REDIS_BUSY)
    for_memory = _at_least_one(memory / (load.memory * MEMORY_USED))
    at_work = peak * load.node_seconds
    return Needs(
        nodes_per_second=nodes_per_second,
        peak_nodes_per_second=peak,
        redis_processors=redis_processors,
        live_runs=live,
        kept_runs=kept,
        bytes_a_run=a_run,
        history_bytes=(live + kept) * history,
        memory=memory,
        primaries_for_processors=for_processors,
        primaries_for_memory=for_memory,
        partitions=_partitions(max(for_processors, for_memory)),
        nodes_at_work=at_work,
        worker_processors=worker_processors,
        worker_processes=max(
            _at_least_one(worker_processors / WORKER_BUSY), _at_least_one(at_work / COROUTINES_PER_PROCESS)
        ),
        threads=_at_least_one(at_work),
        network=peak * load.payload * 2,  # an output is written once, and read by a successor
    )


def _at_least_one(number: float) -> int:
    return max(1, math.ceil(number))


def _partitions(primaries: int) -> int:
    if primaries == 1:
        return 1
    wanted = max(LEAST_PARTITIONS, PARTITIONS_PER_PRIMARY * primaries)
    return min(MOST_PARTITIONS, 1 << (wanted - 1).bit_length())
