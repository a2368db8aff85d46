"""Mixed load for a while, to see that memory stays flat: `python -m benchmarks.soak [MINUTES] [RUNS PER SECOND]`."""

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.setting import chain, fan
from flowcraft_sdk import Client, RunCancelledError, RunFailedError
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings

NAMESPACE = "soak"
FILE = """
name: soak
handlers: {echo: benchmarks.worker:echo, async-echo: benchmarks.worker:async_echo, boom: benchmarks.soak:boom}
redis: {url: "${REDIS_URL}"}
executor: {workers: 4}
logging: {level: error}
retention: {completed: {age: 10s}, failed: {age: 10s}, cancelled: {age: 10s}, tombstones: {count: 1000}}
"""
PROCESSES = 2
CALLERS = 8
SAMPLES = 20
GROWTH = 1.10
"""How much the last third of the samples may be above the third before it. The first one is for warming up: ended runs are
removed once a minute."""


def boom(ctx: Any) -> Any:
    """A handler that fails."""
    raise ValueError(f"attempt {ctx.attempt} fails, as all of them do")


def node(node_id: str, uses: str, **more: Any) -> dict[str, Any]:
    """A node of a blueprint."""
    return {"id": node_id, "uses": uses, **more}


GRAPHS = [
    chain("chain", 8),
    chain("async", 5, "async-echo"),
    fan("fan", 12),
    {"id": "failing", "nodes": [node("a", "boom", config={"maxRetries": 2, "retryDelay": "50ms"})], "edges": []},
    {"id": "cancelled", "nodes": [node("a", "sleep", params={"duration": "1h"})], "edges": []},
    {"id": "parent", "nodes": [node("a", "subflow", params={"blueprintId": "chain"})], "edges": []},
    {"id": "waiting", "nodes": [node("a", "sleep", params={"duration": "300ms"})], "edges": []},
    {"id": "map", "nodes": [node("a", "map", inputs="list", params={"uses": "echo", "maxLive": 16})], "edges": []},
]


@dataclass(frozen=True)
class Sample:
    """Memory in MiB."""

    minute: float
    runs: int
    workers: float
    caller: float
    redis: float
    keys: int


def resident(*pids: int) -> float:
    """Resident memory of processes."""
    command = ["ps", "-o", "rss=", "-p", ",".join(map(str, pids))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(map(int, shown.split())) / 1024


class Load:
    """Callers in threads of their own that start runs, and wait for them or cancel them."""

    def __init__(self, client: Client, per_second: float) -> None:
        self.ended = 0
        self.wrong: list[str] = []
        self._client = client
        self._pause = CALLERS / per_second
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=[random.Random(i)]) for i in range(CALLERS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No more runs."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, chance: random.Random) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - 1)
            blueprint = chance.choice(GRAPHS)["id"]
            try:
                self._one(blueprint, chance)
            except Exception as error:
                self.wrong.append(f"{blueprint}: {type(error).__name__}: {error}")
            self.ended += 1

    def _one(self, blueprint: str, chance: random.Random) -> None:
        size = chance.choice([10, 100, 2000])
        handle = self._client.start(blueprint, {"x": "v" * size, "list": list(range(20))})
        if blueprint == "cancelled":
            handle.cancel("soaked", grace=0)
        expected = {"cancelled": RunCancelledError, "failing": RunFailedError}.get(blueprint)
        try:
            handle.result(timeout=60)
        except (RunCancelledError, RunFailedError) as error:
            if expected is None or not isinstance(error, expected):
                raise


@contextmanager
def servers(folder: str, url: str) -> Iterator[list[int]]:
    """Workers as they are run in production; their process ids."""
    Path(folder, "flowcraft.yaml").write_text(FILE)
    environ = {**os.environ, "REDIS_URL": url, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "flowcraft_server.cli.server", "worker"]
    running = [subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL) for _ in range(PROCESSES)]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


def soak(minutes: float, per_second: float) -> tuple[list[Sample], list[str]]:
    """Load for some minutes; prints the samples, and returns them and what went wrong."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(folder, fsync="no", durable=False) as store:
        link = StoreLink(store.url)
        publish_settings(link.redis, Partitions(NAMESPACE), history=True, max_events=10_000, cancel_grace_ms=1000)
        publish_blueprints(link.redis, Partitions(NAMESPACE), [Blueprint.from_plain(graph) for graph in GRAPHS])
        with servers(folder, store.url) as pids, Client(store.url, namespace=NAMESPACE) as client:
            load = Load(client, per_second)
            load.start()
            samples = sample(link, pids, load, minutes)
            load.end()
        link.close()
    return samples, load.wrong


def sample(link: StoreLink, pids: list[int], load: Load, minutes: float) -> list[Sample]:
    """Look at everybody's memory at equal intervals."""
    samples: list[Sample] = []
    begin = time.monotonic()
    print("| minute | runs ended | workers MiB | caller MiB | Redis MiB | keys |\n|---|---|---|---|---|---|")
    for number in range(1, SAMPLES + 1):
        time.sleep(max(0.0, begin + number * minutes * 60 / SAMPLES - time.monotonic()))
        used = int(link.redis.info("memory")["used_memory"]) / 2**20
        now = (time.monotonic() - begin) / 60
        samples.append(Sample(now, load.ended, resident(*pids), resident(os.getpid()), used, link.redis.dbsize()))
        row = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(samples[-1]))
        print(f"| {' | '.join(row)} |", flush=True)
    return samples


def main() -> int:
    """1 if something grew or went wrong."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    per_second = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    samples, wrong = soak(minutes, per_second)
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[-third:]
    grown = []
    for what in ("workers", "caller", "redis", "keys"):
        growth = mean(getattr(one, what) for one in after) / mean(getattr(one, what) for one in before)
        print(f"{what}: the last third is {growth - 1:+.1%} beside the one before")
        if growth > GROWTH:
            grown.append(what)
    print(f"grown: {', '.join(grown) or 'nothing'}; runs that ended otherwise than expected: {len(wrong)}")
    print("\n".join(wrong[:10]))
    return 1 if grown or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
