"""An environment for tests: embedded server, worker threads in this process, a namespace of its own."""

import math
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flowcraft_sdk import Client, ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import check_span
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS, Partitions
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.load import load_config
from flowcraft_server.llm.models import build_models
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.handlers import as_runnable, in_place_of
from flowcraft_server.testing.sources import BlueprintSource, check_blueprints, read_blueprints
from flowcraft_server.worker.from_config import worker_settings
from flowcraft_server.worker.settings import WorkerSettings, new_worker_id
from flowcraft_server.worker.worker import Worker

_store: EmbeddedStore | None = None
_store_lock = threading.Lock()


def shared_store() -> str:
    """Start the embedded server that all environments of this process share.

    Returns:
        Its address; `FLOWCRAFT_TEST_REDIS_URL`, if it is set.
    """
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


def partitions_in_environment() -> int:
    """How many partitions an environment has whose test names no number: `FLOWCRAFT_TEST_PARTITIONS`, 1 by default.

    Raises:
        ConfigurationError: the variable is no number that there can be.
    """
    given = os.environ.get("FLOWCRAFT_TEST_PARTITIONS") or "1"
    if not given.isdecimal() or not 1 <= int(given) <= MOST_PARTITIONS:
        raise ConfigurationError(f"FLOWCRAFT_TEST_PARTITIONS is a number from 1 to {MOST_PARTITIONS}, got {given!r}")
    return int(given)


class TestClock:
    """The clock that the scripts read: Redis time plus an offset that only tests set."""

    __test__ = False

    def __init__(
        self, link: StoreLink, partitions: Partitions, moved: Callable[[], None], idle: Callable[[], None]
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._moved = moved
        self._idle = idle

    def now(self) -> datetime:
        """Read the time as the scripts see it.

        Returns:
            The time, in UTC.
        """
        seconds, micros = self._link.redis.time()
        offset = int(self._link.redis.get(self._partitions.home.clock) or 0)
        return datetime.fromtimestamp(seconds + micros / 1e6, UTC) + timedelta(milliseconds=offset)

    def advance(self, by: timedelta | float | str, *, keep_leases: bool = True) -> None:
        """Move the clock forward. Workers do at once what falls due.

        Args:
            by: Seconds, a timedelta, or a text such as `2d` or `1h30m`.
            keep_leases: Whether running nodes stay with their workers, as if their leases were renewed; False: all workers were
                silent for that time.

        Raises:
            ConfigurationError: `by` is no duration.
        """
        seconds = check_span(by, "by")
        if seconds is None:
            raise ConfigurationError("say by how much the clock is to be moved")
        for keys in self._partitions.all:
            self._link.call(scripts.advance(keys, ms=int(seconds * 1000), keep_leases=keep_leases))
        self._moved()

    def advance_to_next_timer(self) -> timedelta:
        """Wait until nothing is ready or running, and move the clock to the timer that is due first.

        A timer is the end of a `sleep`, of a retry's delay, of a wait, of a run's time limit, or of a start's delay.

        Returns:
            How far the clock was moved.

        Raises:
            LookupError: There is no timer.
            TimeoutError: A node is still running.
        """
        self._idle()
        heads = self._link.read_all([("ZRANGE", keys.timers, 0, 0, "WITHSCORES") for keys in self._partitions.all])
        due = min((float(head[1]) for head in heads if head), default=None)
        if due is None:
            raise LookupError("no timer is set: nothing sleeps, waits with a timeout or is to be tried again")
        by = timedelta(milliseconds=max(0, math.ceil(due - self.now().timestamp() * 1000)) + 1)
        self.advance(by)
        return by


class _Override:
    """A handler in place of another one, while its `with` block lasts."""

    def __init__(self, handlers: dict[str, Handler], type: str, handler: Handler) -> None:
        self._handlers = handlers
        self._handler = handler
        self._before: Handler | None = None
        self.type = type
        self.was_entered = False

    def __enter__(self) -> None:
        self._before = self._handlers.get(self.type)
        self._handlers[self.type] = self._handler
        self.was_entered = True

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            del self._handlers[self.type]
        else:
            self._handlers[self.type] = self._before


class TestEnvironment:
    """The real engine for a test. Use it as a context manager.

    Example:
        ```python
        with TestEnvironment(blueprints="blueprints", handlers={"greet": lambda ctx: f"Hello {ctx.input}"}) as env:
            assert env.client.execute("greeting", {"name": "Ada"}, timeout=10) == "Hello Ada"
        ```

    Args:
        blueprints: A folder, a file (paths as text or `Path`), a blueprint in YAML, a mapping id -> blueprint (plain form
            or YAML), or an iterable of those.
        handlers: Functions and coroutine functions by the name that nodes `use`.
        workers: How many workers run in this process; 0 for none.
        settings: Settings of each worker.
        models: Language models for `ctx.llm`.
        redis_url: Address of a Redis to use in place of the shared embedded server.
        history: Whether runs keep their events.
        partitions: How many partitions the deployment has; by default `FLOWCRAFT_TEST_PARTITIONS`, or 1.
        check: Whether blueprints are refused for what `flowcraft-server check` calls an error, such as a handler that is
            not there.

    Raises:
        ValueError: On entering, a blueprint has errors; the message lists them.
        HandlerError: A value of `handlers` cannot be a handler.
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
        partitions: int | None = None,
        check: bool = True,
    ) -> None:
        self.url = redis_url or shared_store()
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.partitions = Partitions(self.namespace, partitions_in_environment() if partitions is None else partitions)
        self.keys = self.partitions.home
        self.settings = settings or WorkerSettings()
        if not isinstance(handlers or {}, Mapping):
            raise ConfigurationError("handlers is a mapping of names to functions, such as {'charge': charge}")
        self.handlers = {name: as_runnable(name, function) for name, function in (handlers or {}).items()}
        self.link = StoreLink(self.url)
        self.clock = TestClock(self.link, self.partitions, self._clock_moved, self.run_until_idle)
        self.workers: list[Worker] = []
        self._models = models
        self._history = history
        self._worker_count = workers
        self._sources = blueprints
        self._client: Client | None = None
        self._check = check
        self._blueprints: dict[str, Blueprint] = {}
        self._queues: dict[str, str] = {}
        self._entered = False
        self._overrides: list[_Override] = []

    @classmethod
    def from_config(
        cls,
        path: str | Path = "flowcraft.yaml",
        *,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        profile: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        workers: int = 1,
        models: Any = None,
        redis_url: str | None = None,
    ) -> Self:
        """Make the environment of a deployment: its blueprints, handlers, params, queues, limits and language models.

        It never touches the deployment's Redis, nor its name there.

        Args:
            path: Path of its `flowcraft.yaml`.
            handlers: Handlers in place of those in the file, by name; params, queue and timeout stay the file's.
            profile: Name of a profile of the file; by default `FLOWCRAFT_PROFILE`.
            overrides: Values that count before all others, by dotted path such as `executor.workers`.
            workers: How many workers run in this process.
            models: Language models in place of the file's.
            redis_url: Address of a Redis to use in place of the shared embedded server.

        Returns:
            The environment, which is to be entered.

        Raises:
            ConfigurationError: The file, a handler or a blueprint has errors, or a handler is given that the file does
                not name; the message lists them.
            LLMSettingsError: The file of a scripted provider is missing or wrong.
        """
        loaded = load_config(path, profile=profile, overrides=overrides)
        errors = [str(diagnostic) for diagnostic in loaded.diagnostics if diagnostic.severity == "error"]
        if errors or loaded.settings is None:
            raise ConfigurationError("; ".join(errors))
        for name in handlers or {}:
            if name not in loaded.handlers:
                raise ConfigurationError(f"{path} names no handler '{name}'{did_you_mean(name, loaded.handlers)}")
        settings = loaded.settings
        env = cls(
            blueprints=loaded.blueprints,
            workers=workers,
            settings=replace(worker_settings(settings), secrets=loaded.secrets),
            models=models if models is not None else build_models(settings.llm, base=loaded.folder),
            redis_url=redis_url,
            history=settings.history.enabled,
            check=False,  # it was checked with the handlers of the file
        )
        env.handlers.update(loaded.handlers)
        env._queues = {name: handler.queue for name, handler in loaded.handlers.items() if handler.queue}
        for name, function in (handlers or {}).items():
            env.handlers[name] = in_place_of(env.handlers[name], function)
        return env

    @property
    def client(self) -> Client:
        """An SDK client of this environment.

        Raises:
            ConfigurationError: The environment was not entered: nothing is published yet, and no worker runs.
        """
        if not self._entered:
            raise ConfigurationError("the environment was not entered: write `with TestEnvironment(...) as env:`")
        if self._client is None:
            self._client = Client(self.url, namespace=self.namespace)
        return self._client

    def __enter__(self) -> Self:
        self._entered = True
        publish_settings(
            self.link.redis,
            self.partitions,
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
        unused = next((override for override in self._overrides if not override.was_entered), None)
        if unused is not None and error is None:
            message = f"the override of '{unused.type}' had no effect: write `with env.override(...):`"
            raise ConfigurationError(message)

    def publish(self, sources: BlueprintSource | Iterable[BlueprintSource]) -> dict[str, str]:
        """Publish blueprints.

        Args:
            sources: As the argument `blueprints` of the class.

        Returns:
            The plan hash of each, by id.

        Raises:
            ValueError: One of them has errors; the message lists them.
        """
        blueprints = list(read_blueprints(sources))
        known = {**self._blueprints, **{blueprint.id: blueprint for blueprint in blueprints}}
        if self._check:
            check_blueprints(blueprints, known, self.handlers)
        self._blueprints = known
        return publish_blueprints(self.link.redis, self.partitions, blueprints, self._queues)

    def add_worker(self, settings: WorkerSettings | None = None) -> Worker:
        """Start another worker.

        Args:
            settings: Its settings; by default those of the environment.

        Returns:
            The worker.
        """
        chosen = replace(settings or self.settings, worker_id=new_worker_id(), partitions=self.partitions.count)
        worker = Worker(self.url, self.namespace, self.handlers, chosen, self._models)
        worker.start()
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: Worker | None = None) -> None:
        """Drop a worker without clean-up, as kill -9 would: nothing more of it reaches Redis.

        Args:
            worker: The worker; None for the one that was started last.

        Raises:
            ConfigurationError: It is none of the environment's workers.
        """
        if worker not in (None, *self.workers) or not self.workers:
            raise ConfigurationError("there is no such worker to kill; `add_worker` starts one")
        victim = worker or self.workers[-1]
        self.workers.remove(victim)
        victim.sever()

    def override(self, type: str, handler: Callable[..., Any]) -> "_Override":
        """Replace a handler for as long as the `with` block that this call stands in.

        Args:
            type: Its name, as nodes `use` it.
            handler: The function that runs in its place; params and timeout stay those of the one that is replaced.

        Returns:
            A context manager.

        Raises:
            ConfigurationError: There is no such handler, and no node uses one; or the engine itself runs such nodes.
                At the end of the environment, if an override was made that no `with` entered.
            HandlerError: What was given cannot be a handler.
        """
        if type in BUILTIN_USES:
            raise ConfigurationError(f"'{type}' is built in: no handler runs it, and none can be put in its place")
        before = self.handlers.get(type)
        if before is None and type not in (used := self._used()):
            near = did_you_mean(type, [*self.handlers, *used])
            raise ConfigurationError(f"there is no handler '{type}' to replace, and no node uses one{near}")
        override = _Override(
            self.handlers, type, as_runnable(type, handler) if before is None else in_place_of(before, handler)
        )
        self._overrides.append(override)
        return override

    def _used(self) -> set[str]:
        """Names of handlers that nodes use, for themselves or for their items."""
        nodes = [node for blueprint in self._blueprints.values() for node in blueprint.nodes]
        items = [node.params.get(name) for node in nodes for name in ("uses", "workerUsesKey")]
        return {*(node.uses for node in nodes), *(name for name in items if isinstance(name, str))}

    def run_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until nothing is ready or running, and no timer is due. Waits and later timers may remain.

        Args:
            timeout: Seconds to wait.

        Raises:
            TimeoutError: A node is still running.
        """
        until = clock() + timeout
        while self._busy():
            if clock() > until:
                raise TimeoutError(f"still at work after {timeout} s: {self._at_work()}")
            time.sleep(0.002)

    def _at_work(self) -> str:
        """What there is to do, for the message of a run that does not come to rest."""
        redis = self.link.redis
        entries: dict[str, list[Any]] = {}
        for keys in self.partitions.all:
            places = {f"ready in {queue}": keys.ready(queue) for queue in self.settings.queues}
            for what, name in (places | {"running": keys.leases, "timers": keys.timers}).items():
                entries.setdefault(what, []).extend(redis.zrange(name, 0, 9))
        return "; ".join(
            f"{what}: {', '.join(part.decode() for part in parts)}" for what, parts in entries.items() if parts
        )

    def _busy(self) -> bool:
        # All of a partition at one moment: a node that goes from one to the other between two looks would be seen in neither.
        groups = [
            [
                ("MULTI",), ("TIME",), ("GET", keys.clock), ("ZRANGE", keys.timers, 0, 0, "WITHSCORES"),
                *(("ZCARD", keys.ready(queue)) for queue in self.settings.queues), ("ZCARD", keys.leases), ("EXEC",),
            ]
            for keys in self.partitions.all
        ]  # fmt: skip
        replies = self.link.read_all([command for group in groups for command in group])
        for (seconds, micros), offset, first, *counts in replies[len(groups[0]) - 1 :: len(groups[0])]:
            now = int(seconds) * 1000 + int(micros) // 1000 + int(offset or 0)
            if any(counts) or (first and float(first[1]) <= now and self.workers):
                return True
        return False

    def _clock_moved(self) -> None:
        for worker in self.workers:
            worker.wake()
