"""Nodes that end their process among many innocent ones: `python -m tests.chaos.suspects`, and in short as a test.

Variables: FLOWCRAFT_SUSPECTS_GUILTY (3), FLOWCRAFT_SUSPECTS_COROUTINES (1000), FLOWCRAFT_SUSPECTS_FUNCTIONS (100).
"""

import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from flowcraft_sdk import Client
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.environment import partitions_in_environment, read_blueprints
from tests.acceptance.server_program import Server, eventually

NAMESPACE = "suspects"
TIMEOUT = 120.0
FILE = """
name: suspects
handlers:
  guilty: tests.hostile.handlers:{guilty}
  coroutine: tests.chaos.suspects:innocent_coroutine
  function: tests.chaos.suspects:innocent_function
  quick: tests.chaos.suspects:quick
redis: {{url: "${{REDIS_URL}}"}}
logging: {{level: warning, format: json}}
executor: {{workers: 4, processes: 2, lease: 1s, maxCrashes: 3}}
"""
OTHERS = """
name: suspects
handlers: {{quick: tests.chaos.suspects:quick}}
redis: {{url: "${{REDIS_URL}}"}}
logging: {{level: warning, format: json}}
executor: {{workers: 2, queue: others, lease: 1s}}
"""


async def innocent_coroutine(ctx: Any) -> str:
    """Waits a second, as a call of a model does."""
    import asyncio

    await asyncio.sleep(1.0)
    return "innocent"


def innocent_function(ctx: Any) -> str:
    """Takes a moment."""
    time.sleep(0.02)
    return "innocent"


def quick(ctx: Any) -> int:
    """Does nothing."""
    return 1


@dataclass(frozen=True)
class Outcome:
    """What became of them.

    Attributes:
        rate_before, rate_meanwhile: runs a second of another queue.
    """

    innocent: int
    completed: int
    blamed: list[str]
    guilty: list[str]
    seconds: float
    rate_before: float
    rate_meanwhile: float

    def is_right(self) -> bool:
        """Whether all innocent nodes completed, and the guilty ones alone are dead letters."""
        return self.completed == self.innocent and sorted(self.blamed) == sorted(self.guilty)


class _Load:
    """Another queue, with a worker of its own: one run after the other, and how many there were."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._client.start("other").result(timeout=30)
            self._done += 1

    def rate(self, seconds: float | None = None, until: Any = None) -> float:
        """Runs a second, for some seconds or until something is so."""
        begin, done = time.monotonic(), self._done
        if seconds is not None:
            time.sleep(seconds)
        else:
            until()
        return (self._done - done) / (time.monotonic() - begin)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


def trial(folder: Path, *, guilty: str, guilty_count: int, coroutines: int, functions: int) -> Outcome:
    """Run guilty and innocent nodes side by side in two processes.

    Args:
        guilty: name of a handler of `tests.hostile` that ends its process.
    """
    (folder / "others").mkdir(parents=True)
    (folder / "flowcraft.yaml").write_text(FILE.format(guilty=guilty))
    (folder / "others" / "flowcraft.yaml").write_text(OTHERS.format())
    texts = {name: f"nodes:\n  node: {{uses: {name}}}\n" for name in ("guilty", "coroutine", "function")}
    texts["other"] = "nodes:\n  node: {uses: quick, config: {queue: others}}\n"
    with EmbeddedStore(folder / "store") as store:
        connection = redis.Redis.from_url(store.url)
        partitions = Partitions(NAMESPACE, partitions_in_environment())
        publish_settings(connection, partitions, history=True, max_events=1000, cancel_grace_ms=1000)
        publish_blueprints(connection, partitions, list(read_blueprints(texts)))
        environ = {"REDIS_URL": store.url}
        servers = [Server(folder, "worker", environ=environ), Server(folder / "others", "worker", environ=environ)]
        with Client(store.url, namespace=NAMESPACE) as client:
            assert eventually(lambda: connection.zcard(partitions.home.workers) >= 3, 30)
            load = _Load(client)
            before = load.rate(seconds=3.0)
            begin = time.monotonic()
            bad = [client.start("guilty", run_id=f"guilty-{number}") for number in range(guilty_count)]
            good = [client.start("coroutine") for _ in range(coroutines)]
            good += [client.start("function") for _ in range(functions)]

            def wait() -> None:
                for handle in (*bad, *good):
                    handle.wait(timeout=max(1.0, TIMEOUT - (time.monotonic() - begin)))

            meanwhile = load.rate(until=wait)
            seconds = time.monotonic() - begin
            load.stop()
            completed = sum(handle.status().value == "completed" for handle in good)
            blamed = [letter.run_id for letter in client.admin.dead_letters(limit=1000)]
        for server in servers:
            server.signal(signal.SIGTERM)
        for server in servers:
            server.ends(60)
        connection.close()
    return Outcome(len(good), completed, blamed, [handle.run_id for handle in bad], seconds, before, meanwhile)


def main() -> int:
    """The long version; 1 if an innocent node failed or a guilty one did not."""
    guilty_count = int(os.environ.get("FLOWCRAFT_SUSPECTS_GUILTY", "3"))
    coroutines = int(os.environ.get("FLOWCRAFT_SUSPECTS_COROUTINES", "1000"))
    functions = int(os.environ.get("FLOWCRAFT_SUSPECTS_FUNCTIONS", "100"))
    right = True
    sys.stdout.write(
        "| guilty nodes | innocent completed | dead letters | seconds | other queue before, meanwhile (runs/s) |\n"
    )
    sys.stdout.write("|---|---|---|---|---|\n")
    for guilty in sys.argv[1:] or (
        "ends_the_process",
        "ends_the_process_in_coroutine",
        "kills_its_process",
        "crashes_natively",
    ):
        with tempfile.TemporaryDirectory(prefix="flowcraft-suspects-") as folder:
            found = trial(
                Path(folder), guilty=guilty, guilty_count=guilty_count, coroutines=coroutines, functions=functions
            )
        sys.stdout.write(
            f"| {guilty_count} x {guilty} | {found.completed} of {found.innocent} | {len(found.blamed)} | {found.seconds:.0f} | "
            f"{found.rate_before:.0f}, {found.rate_meanwhile:.0f} |\n"
        )
        sys.stdout.flush()
        right = right and found.is_right()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
