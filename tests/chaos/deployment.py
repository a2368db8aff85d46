"""A deployment that is made to suffer: a folder, a durable store of its own, worker processes that can be killed and frozen."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from flowcraft_sdk import Client
from flowcraft_sdk._operations import doctor
from flowcraft_sdk._operations.durability import ASYNC
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import connect
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.environment import partitions_in_environment, read_blueprints
from tests.acceptance.server_program import Server, eventually
from tests.chaos import ledger
from tests.chaos.flows import FLOWS
from tests.chaos.handlers import FOLDER, HANDLERS
from tests.chaos.misbehaviour import SHARE

NAMESPACE = "chaos"
TIMEOUT = 60.0

FILE = """
name: {namespace}
handlers:
{handlers}
redis: {{url: "${{REDIS_URL}}", partitions: {partitions}, durability: "{durability}"}}
logging: {{level: warning, format: json}}
executor: {{workers: {threads}, lease: {lease}ms, maxCrashes: {max_crashes}, cancelGrace: 1s}}
defaults: {{maxRetries: {max_retries}}}
"""


@dataclass(frozen=True)
class Death:
    """A worker that was killed or frozen, and when, by the wall clock."""

    worker: str
    at: float


class Worker:
    """A worker process of the `flowcraft-server` program."""

    def __init__(self, deployment: "Deployment", url: str | None = None) -> None:
        environ = {
            "REDIS_URL": url or deployment.url,
            ledger.VARIABLE: str(deployment.ledger),
            FOLDER: str(deployment.folder),
            SHARE: str(deployment.hostile),
        }
        self.server = Server(deployment.folder, "worker", environ=environ)
        self._deployment = deployment
        self._id: str | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.server.process.pid

    @property
    def id(self) -> str | None:
        """Its name in Redis, None until it is up."""
        if self._id is None:
            self._id = self._deployment.announced().get(self.pid)
        return self._id

    def up(self) -> bool:
        """Whether it serves."""
        return self.server.process.poll() is None and self.id is not None

    def kill(self) -> Death:
        """End it as `kill -9` does."""
        name = self.id or ""
        self.server.process.kill()
        death = Death(name, time.time())
        self.server.process.wait()
        return death

    def freeze(self) -> Death:
        """Stop it in its tracks.

        Sending the signal is not enough: its threads run on until one of them has taken notice of it.
        """
        name = self.id or ""
        self.server.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return Death(name, time.time())

    def thaw(self) -> None:
        """Let it go on."""
        self.server.signal(signal.SIGCONT)


class Deployment:
    """The chaos deployment. Use as a context manager.

    Args:
        folder: for everything; the ledger is `ledger.jsonl` there.
        lease: of the workers, in seconds.
        max_crashes: of one node, before it goes to the dead letters.
        flows: further blueprints, id -> YAML.
        hostile: the share of handler calls that misbehave; nodes have attempts enough for them.
        url: of a Redis that is there, which then cannot be killed by `kill_store`; by default it has a store of its own.
        partitions: how many; by default FLOWCRAFT_TEST_PARTITIONS says so.
        durability: `redis.durability`.
        threads: of each worker.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease: float = 1.0,
        max_crashes: int = 1000,
        flows: dict[str, str] | None = None,
        hostile: float = 0.0,
        url: str = "",
        partitions: int | None = None,
        durability: str = ASYNC,
        threads: int = 3,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self.hostile = hostile
        self.ledger = folder / "ledger.jsonl"
        self.store = EmbeddedStore(folder / "store")
        self.partitions = Partitions(NAMESPACE, partitions_in_environment() if partitions is None else partitions)
        self.workers: list[Worker] = []
        self.deaths: list[Death] = []
        self._given_url = url
        self._durability = durability
        self._threads = threads
        self._max_crashes = max_crashes
        self._texts = {**{name: flow.text for name, flow in FLOWS.items()}, **(flows or {})}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        handlers = "\n".join(f"  {name}: tests.chaos.handlers:{name}" for name in HANDLERS)
        text = FILE.format(
            namespace=NAMESPACE,
            handlers=handlers,
            lease=int(self.lease * 1000),
            max_crashes=self._max_crashes,
            max_retries=20 if self.hostile else 1,
            partitions=self.partitions.count,
            durability=self._durability,
            threads=self._threads,
        )
        (self.folder / "flowcraft.yaml").write_text(text)
        self.redis = connect(self._given_url) if self._given_url else redis.Redis.from_url(self.store.start())
        publish_settings(
            self.redis,
            self.partitions,
            history=True,
            max_events=20_000,
            cancel_grace_ms=1000,
            durability=self._durability,
        )
        self.publish(self._texts)
        self.client = Client(self.url, namespace=NAMESPACE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.server.process.kill()
            worker.server.process.wait()
        self.client.close()
        self.redis.close()
        self.store.stop()

    @property
    def url(self) -> str:
        """Where its Redis is."""
        return self._given_url or self.store.url

    def publish(self, texts: dict[str, str]) -> None:
        """Publish blueprints, id -> YAML."""
        publish_blueprints(self.redis, self.partitions, list(read_blueprints(texts)))

    def add_worker(self, url: str | None = None, *, wait: bool = True) -> Worker:
        """Start a worker process, on `url` if it is to reach the store by another way."""
        worker = Worker(self, url)
        self.workers.append(worker)
        if wait:
            assert eventually(worker.up), worker.server.printed
        return worker

    def kill(self, worker: Worker) -> Death:
        """Kill a worker for good."""
        self.workers.remove(worker)
        self.deaths.append(worker.kill())
        return self.deaths[-1]

    def kill_store(self) -> None:
        """Kill the store's process, and start it again with what it had written."""
        pid = self.store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(self.store.ensure_running)
        assert self.store.pid not in (None, pid)

    def go(self, name: str = "go") -> None:
        """Let handlers that hold go on."""
        (self.folder / name).touch()

    def announced(self) -> dict[int, str]:
        """Names in Redis of the workers that were seen, by their process ids."""
        try:
            keys = self.partitions.home
            names = [name.decode() for name in self.redis.zrange(keys.workers, 0, -1)]
            return {int(self.redis.hget(keys.worker(name), "pid") or 0): name for name in names}
        except redis.exceptions.ConnectionError:  # the store may be dead at the moment
            return {}

    def read_ledger(self) -> ledger.LedgerReport:
        """What the handlers have written."""
        return ledger.read(self.ledger)

    def hanging(self) -> list[str]:
        """What the doctor finds wrong: of runs, ended ones too, and of entries of queues, leases, timers and indexes."""
        defects = self.client.driver.run(doctor.examine_all(self.client.deployment))
        return [f"{defect.kind}: {defect.run_id} {defect.explanation}" for defect in defects]

    def stale(self) -> int:
        """How many late finishers were refused."""
        return sum(int(self.redis.hget(keys.stats, "stale") or 0) for keys in self.partitions.all)

    def begun(self, node: str, times: int = 1) -> bool:
        """Whether handlers of a node have begun so often."""
        reported: Any = self.read_ledger().executions
        return sum(len(found) for place, found in reported.items() if place.node == node) >= times
