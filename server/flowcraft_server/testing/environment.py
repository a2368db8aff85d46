"""An environment for tests: embedded server, worker threads in this process, a namespace of its own."""

import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from flowcraft_sdk import Client
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.steps import clock
from flowcraft_server.blueprints.loader import load_dirs, load_file, load_text
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.executor.process import WorkerProcess
from flowcraft_server.executor.settings import WorkerSettings, new_worker_id
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.handlers import as_runnable

BlueprintSource = Path | str | Mapping[str, Any] | Blueprint
_store: EmbeddedStore | None = None
_store_lock = threading.Lock()


def shared_store() -> str:
    """Address of an embedded server that all environments of this process share; `FLOWCRAFT_TEST_REDIS_URL` replaces it."""
    global _store
    given = os.environ.get("FLOWCRAFT_TEST_REDIS_URL")
    if given:
        return given
    with _store_lock:
        if _store is None or _store.pid is None:
            folder = tempfile.mkdtemp(prefix="flowcraft-test-")
            _store = EmbeddedStore(folder, fsync="no", durable=False)
            _store.start()
        return _store.url


class TestClock:
    """The clock that the scripts read: Redis time plus an offset that only tests set."""

    __test__ = False

    def __init__(self, link: StoreLink, keys: Keys, moved: Callable[[], None]) -> None:
        self._link = link
        self._keys = keys
        self._moved = moved

    def now(self) -> datetime:
        """The time as the scripts see it."""
        seconds, micros = self._link.redis.time()
        offset = int(self._link.redis.get(self._keys.clock) or 0)
        return datetime.fromtimestamp(seconds + micros / 1e6, UTC) + timedelta(milliseconds=offset)

    def advance(self, by: timedelta | float, *, keep_leases: bool = True) -> None:
        """Move the clock forward by a timedelta or seconds; what falls due is done by the workers at once.

        Args:
            keep_leases: running nodes stay their workers', as if renewed meanwhile; False: all workers were silent.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if seconds < 0:
            raise ValueError("time does not go back")
        self._link.call(scripts.advance(self._keys, ms=int(seconds * 1000), keep_leases=keep_leases))
        self._moved()


class TestEnvironment:
    """The real engine for a test. Use as a context manager.

    Args:
        blueprints: a folder, a file, a mapping id -> blueprint (plain form), or an iterable of those.
        handlers: functions and coroutines by the name that nodes `use`.
        workers: how many workers run in this process; 0 for none.
        settings: of each worker.
        models: language models for `ctx.llm`.
        redis_url: a Redis to use in place of the shared embedded one.
        history: whether runs keep their events.
    """

    __test__ = False

    def __init__(
        self,
        *,
        blueprints: BlueprintSource | Iterable[BlueprintSource] = (),
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        workers: int = 1,
        settings: WorkerSettings | None = None,
        models: Any = None,
        redis_url: str | None = None,
        history: bool = True,
    ) -> None:
        self.url = redis_url or shared_store()
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.keys = Keys(self.namespace)
        self.settings = settings or WorkerSettings()
        self.handlers = {name: as_runnable(name, function) for name, function in (handlers or {}).items()}
        self.link = StoreLink(self.url)
        self.clock = TestClock(self.link, self.keys, self._clock_moved)
        self.workers: list[WorkerProcess] = []
        self._models = models
        self._history = history
        self._worker_count = workers
        self._sources = blueprints
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """An SDK client of this environment."""
        if self._client is None:
            self._client = Client(self.url, namespace=self.namespace)
        return self._client

    def __enter__(self) -> Self:
        publish_settings(
            self.link.redis,
            self.keys,
            history=self._history,
            max_events=10_000,
            cancel_grace_ms=int(self.settings.cancel_grace * 1000),
        )
        self.publish(self._sources)
        for _ in range(self._worker_count):
            self.add_worker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.drain(0.0)
        for worker in self.workers:
            worker.stop()
        if self._client is not None:
            self._client.close()
        names = list(self.link.redis.scan_iter(match=f"fc:{{{self.namespace}.*", count=1000))
        for first in range(0, len(names), 500):
            self.link.redis.unlink(*names[first : first + 500])
        self.link.close()

    def publish(self, sources: BlueprintSource | Iterable[BlueprintSource]) -> dict[str, str]:
        """Publish blueprints; returns id -> plan hash."""
        return publish_blueprints(self.link.redis, self.keys, list(read_blueprints(sources)))

    def add_worker(self, settings: WorkerSettings | None = None) -> WorkerProcess:
        """Start another worker."""
        chosen = replace(settings or self.settings, worker_id=new_worker_id())
        worker = WorkerProcess(self.url, self.namespace, self.handlers, chosen, self._models)
        worker.start()
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: WorkerProcess | None = None) -> None:
        """Drop a worker without clean-up, as kill -9 would: nothing more of it reaches Redis."""
        victim = worker or self.workers[-1]
        self.workers.remove(victim)
        victim.sever()

    @contextmanager
    def override(self, type: str, handler: Callable[..., Any]) -> Iterator[None]:
        """Replace the handler of a node type for a while."""
        before = self.handlers.get(type)
        self.handlers[type] = as_runnable(type, handler)
        try:
            yield
        finally:
            if before is None:
                del self.handlers[type]
            else:
                self.handlers[type] = before

    def run_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until nothing is ready or running, and no timer is due. Waits and later timers may remain.

        Raises:
            TimeoutError: something still runs.
        """
        until = clock() + timeout
        while self._busy():
            if clock() > until:
                raise TimeoutError(f"still at work after {timeout} s: {self._at_work()}")
            time.sleep(0.002)

    def _at_work(self) -> str:
        """What there is to do, for the message of a run that does not come to rest."""
        redis = self.link.redis
        places = {f"ready in {queue}": self.keys.ready(queue) for queue in self.settings.queues}
        places |= {"running": self.keys.leases, "timers": self.keys.timers}
        told: dict[str, list[Any]] = {what: redis.zrange(name, 0, 9) for what, name in places.items()}
        return "; ".join(
            f"{what}: {', '.join(part.decode() for part in parts)}" for what, parts in told.items() if parts
        )

    def _busy(self) -> bool:
        # All at one moment: a node that goes from one to the other between two looks would be seen in neither.
        pipe = self.link.redis.pipeline(transaction=True)
        pipe.time()
        pipe.get(self.keys.clock)
        pipe.zrange(self.keys.timers, 0, 0, withscores=True)
        for name in [*(self.keys.ready(queue) for queue in self.settings.queues), self.keys.leases]:
            pipe.zcard(name)
        (seconds, micros), offset, first, *counts = pipe.execute()
        now = seconds * 1000 + micros // 1000 + int(offset or 0)
        return any(counts) or bool(first and first[0][1] <= now and self.workers)

    def _clock_moved(self) -> None:
        for worker in self.workers:
            worker.wake()


def read_blueprints(sources: BlueprintSource | Iterable[BlueprintSource]) -> Iterator[Blueprint]:
    """Blueprints from whatever form a test has them in.

    Raises:
        ValueError: one of them has errors; the message lists them.
    """
    if isinstance(sources, Blueprint):
        yield sources
    elif isinstance(sources, Path):
        loaded = load_dirs([sources]) if sources.is_dir() else load_file(sources)
        yield from _checked(*loaded)
    elif isinstance(sources, Mapping):
        if "nodes" in sources:
            yield from _checked(
                *load_text(json.dumps(sources), "blueprint.json", sources.get("id", "blueprint"), "json")
            )
        else:
            for blueprint_id, source in sources.items():
                text = source if isinstance(source, str) else json.dumps(source)
                form: Literal["yaml", "json"] = "yaml" if isinstance(source, str) else "json"
                yield from _checked(*load_text(text, f"{blueprint_id}.{form}", blueprint_id, form))
    elif isinstance(sources, str):
        yield from _checked(*load_text(sources, "blueprint.yaml", "blueprint", "yaml"))
    else:
        for source in sources:
            yield from read_blueprints(source)


def _checked(loaded: Blueprint | list[Blueprint] | None, problems: list[Any]) -> Iterator[Blueprint]:
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if errors or loaded is None:
        raise ValueError("\n".join(errors) or "no blueprint")
    yield from loaded if isinstance(loaded, list) else [loaded]
