"""An environment for tests: embedded server, worker threads in this process, a namespace of its own."""

import atexit
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flowcraft_sdk import Client, ConfigurationError
from flowcraft_sdk._operations.queues import paused_in
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS, Partitions
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint
from flowcraft_server.blueprints.routes import Route
from flowcraft_server.blueprints.run_limits import RunLimits
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.lifespan import as_lifespan
from flowcraft_server.config.limits import Limit, limits_of, run_limits_of
from flowcraft_server.config.load import load_config
from flowcraft_server.config.schedules import schedules_of
from flowcraft_server.llm.models import build_models
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.store.schedules import publish_schedules
from flowcraft_server.testing.blueprint_warnings import warn_of
from flowcraft_server.testing.clock import TestClock
from flowcraft_server.testing.handlers import as_runnable, in_place_of
from flowcraft_server.testing.models import as_models
from flowcraft_server.testing.schedules import check_schedules, look_at_schedules, read_schedules
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
            atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs behind the store's own stop
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
        models: Language models for `ctx.llm`: a function from prompts to replies, or a `LanguageModels`.
        redis_url: Address of a Redis to use in place of the shared embedded server.
        history: Whether runs keep their events.
        partitions: How many partitions the deployment has; by default `FLOWCRAFT_TEST_PARTITIONS`, or 1.
        lifespan: A function that gives a context manager, plain or asynchronous, which each worker enters: handlers get what it
            yields as `ctx.resources` and by their keyword-only parameters.
        check: Whether blueprints are refused for what `flowcraft-server check` calls an error, such as a handler that is
            not there.
        schedules: Schedules by id, each a mapping as in `flowcraft.yaml`; the workers start what is due as the clock is moved.

    Raises:
        ConfigurationError: A schedule has errors.
        ValueError: On entering, a blueprint has errors; the message lists them.
        HandlerError: A value of `handlers` cannot be a handler, or `lifespan` is none.
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
        lifespan: Callable[[], Any] | None = None,
        check: bool = True,
        schedules: Mapping[str, Mapping[str, Any]] | None = None,
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
        self.clock = TestClock(self.link, self.partitions, self._clock_moved, self.run_until_idle, self.check_entered)
        self.workers: list[Worker] = []
        self._models = as_models(models)
        self._history = history
        self._worker_count = workers
        self._sources = blueprints
        self._client: Client | None = None
        self.lifespan = None if lifespan is None else as_lifespan(lifespan, _name_of(lifespan))
        self._check = check
        self._schedules = read_schedules(schedules or {})
        self._blueprints: dict[str, Blueprint] = {}
        self.queues: dict[str, str] = {}
        self._limits: Mapping[str, Limit] = {}
        self._run_limits: RunLimits | None = None
        self._limit_of: dict[str, str] = {}
        self._entered = False
        self._left = False
        self._form = "with TestEnvironment(...) as env:"
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
        lifespan: Callable[[], Any] | None = None,
        schedules: bool = False,
    ) -> Self:
        """Make the environment of a deployment: its blueprints, handlers, params, queues, limits and language models.

        It never touches the deployment's Redis, nor its name there.

        Args:
            path: Path of its `flowcraft.yaml`.
            handlers: Handlers in place of those in the file, by name; params, queue and timeout stay the file's.
            profile: Name of a profile of the file; by default `FLOWCRAFT_PROFILE`.
            overrides: Values that count before all others, by dotted path such as `executor.workers`.
            workers: How many workers run in this process.
            models: Language models in place of the file's: a function from prompts to replies, or a `LanguageModels`.
            lifespan: A lifespan in place of the file's.
            redis_url: Address of a Redis to use in place of the shared embedded server.
            schedules: Whether the schedules of the file start runs as the clock is moved.

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
        warn_of(loaded.diagnostics, but=loaded.path)
        for name in handlers or {}:
            if name not in loaded.handlers:
                raise ConfigurationError(f"{path} names no handler '{name}'{did_you_mean(name, loaded.handlers)}")
        settings = loaded.settings
        env = cls(
            blueprints=loaded.blueprints,
            workers=workers,
            settings=replace(worker_settings(settings), secrets=loaded.secrets),
            models=models
            if models is not None
            else build_models(settings.llm, base=loaded.folder, mask=Redactor(loaded.secrets).clean),
            redis_url=redis_url,
            history=settings.history.enabled,
            lifespan=lifespan,
            check=False,  # it was checked with the handlers of the file
        )
        env._schedules = settings.schedules if schedules else {}
        if lifespan is None:
            env.lifespan = loaded.lifespan
        env.handlers.update(loaded.handlers)
        env.queues = {name: handler.queue for name, handler in loaded.handlers.items() if handler.queue}
        env._limits = limits_of(settings)
        env._run_limits = run_limits_of(settings)
        env._limit_of = {name: handler.limit for name, handler in loaded.handlers.items() if handler.limit}
        for name, function in (handlers or {}).items():
            env.handlers[name] = in_place_of(env.handlers[name], function)
        return env

    @property
    def client(self) -> Client:
        """An SDK client of this environment.

        Raises:
            ConfigurationError: The environment was not entered, or was left: nothing is published, and no worker runs.
        """
        self.check_entered()
        if self._client is None:
            self._client = Client(self.url, namespace=self.namespace)
            self._client.deployment.test_clock = True
        return self._client

    def check_entered(self) -> None:
        """Refuse what is done outside of the `with` block: no worker is there, and nothing is published.

        Raises:
            ConfigurationError: The environment was not entered yet, or was left.
        """
        if self._left:
            raise ConfigurationError(f"the environment has ended with its block: do this inside of `{self._form}`")
        if not self._entered:
            raise ConfigurationError(f"the environment was not entered: write `{self._form}`")

    def __enter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("an environment is entered once: make another one for a second `with` block")
        self._entered = True
        publish_settings(
            self.link.redis,
            self.partitions,
            history=self._history,
            max_events=10_000,
            cancel_grace_ms=int(self.settings.cancel_grace * 1000),
            limits=self._limits,
            run_limits=self._run_limits,
        )
        self.publish(self._sources)
        if self._schedules:
            check_schedules(self._schedules, list(self._blueprints.values()))
            publish_schedules(self.link.redis, self.partitions, schedules_of(self._schedules), f"test:{self.namespace}")
        for _ in range(self._worker_count):
            self.add_worker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
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
            ConfigurationError: The environment was not entered, or was left.
        """
        self.check_entered()
        blueprints = list(read_blueprints(sources))
        known = {**self._blueprints, **{blueprint.id: blueprint for blueprint in blueprints}}
        if self._check:
            check_blueprints(blueprints, known, self.handlers)
        return self.publish_checked(blueprints)

    def publish_checked(self, blueprints: Iterable[Blueprint]) -> dict[str, str]:
        """Publish blueprints as they are.

        Args:
            blueprints: The blueprints.

        Returns:
            The plan hash of each, by id.

        Raises:
            ConfigurationError: The environment was not entered, or was left.
        """
        self.check_entered()
        blueprints = list(blueprints)
        self._blueprints = {**self._blueprints, **{blueprint.id: blueprint for blueprint in blueprints}}
        routes = {
            name: Route(self.queues.get(name), self._limit_of.get(name)) for name in (*self.queues, *self._limit_of)
        }
        return publish_blueprints(self.link.redis, self.partitions, blueprints, routes)

    def add_worker(self, settings: WorkerSettings | None = None) -> Worker:
        """Start another worker.

        Args:
            settings: Its settings; by default those of the environment.

        Returns:
            The worker.

        Raises:
            ConfigurationError: The environment was not entered, or was left.
        """
        self.check_entered()
        chosen = replace(settings or self.settings, worker_id=new_worker_id(), partitions=self.partitions.count)
        worker = Worker(self.url, self.namespace, self.handlers, chosen, self._models, lifespan=self.lifespan)
        worker.start()
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: Worker | None = None) -> None:
        """Drop a worker without clean-up, as kill -9 would: nothing more of it reaches Redis.

        Args:
            worker: The worker; None for the one that was started last.

        Raises:
            ConfigurationError: It is none of the environment's workers; or the environment was not entered, or was left.
        """
        self.check_entered()
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
                At the end of the environment, if an override was made that no `with` entered; once it has ended, always.
            HandlerError: What was given cannot be a handler.
        """
        if type in BUILTIN_USES:
            raise ConfigurationError(f"'{type}' is built in: no handler runs it, and none can be put in its place")
        before = self.handlers.get(type)
        if self._left or before is None:  # what nodes use is known once they are published
            self.check_entered()
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
        """Wait until nothing is ready or running, and no timer is due. Waits, later timers and paused queues may remain.

        Args:
            timeout: Seconds to wait.

        Raises:
            TimeoutError: A node is still running.
            ConfigurationError: The environment was not entered, or was left.
        """
        self.check_entered()
        until = clock() + timeout
        while self.is_busy():
            if clock() > until:
                raise TimeoutError(f"still at work after {timeout} s: {self.at_work()}")
            time.sleep(0.002)

    def at_work(self) -> str:
        """Say what there is to do, for the message of a run that does not come to rest.

        Returns:
            What is ready, what runs and which timers are set, in one line.
        """
        redis = self.link.redis
        entries: dict[str, list[Any]] = {}
        for keys in self.partitions.all:
            places = {f"ready in {queue}": keys.ready(queue) for queue in self.settings.queues}
            for what, name in (places | {"running": keys.leases, "timers": keys.timers}).items():
                entries.setdefault(what, []).extend(redis.zrange(name, 0, 9))
        return "; ".join(
            f"{what}: {', '.join(part.decode() for part in parts)}" for what, parts in entries.items() if parts
        )

    def is_busy(self, held: int = 0) -> bool:
        """Look whether a node is ready or running, or a timer or a tick of a schedule due.

        Args:
            held: How many nodes may be running all the same: those that wait for the clock to be moved.

        Returns:
            True if so.
        """
        if not (self._schedules and self.workers):
            return self._nodes_are_busy(held)
        before = look_at_schedules(self.link, self.partitions)
        return before.due or self._nodes_are_busy(held) or look_at_schedules(self.link, self.partitions) != before

    def _nodes_are_busy(self, held: int) -> bool:
        # All of a partition at one moment: a node that goes from one to the other between two looks would be seen in neither.
        groups = [
            [
                ("MULTI",), ("TIME",), ("MGET", keys.clock, keys.claiming), ("ZRANGE", keys.timers, 0, 0, "WITHSCORES"),
                ("ZRANGE", keys.unplaced, 0, 0, "WITHSCORES"), ("ZCARD", keys.left), ("ZCARD", keys.admitted),
                ("ZCARD", keys.leases), *(("ZCARD", keys.ready(queue)) for queue in self.settings.queues), ("EXEC",),
            ]
            for keys in self.partitions.all
        ]  # fmt: skip
        replies = self.link.read_all([command for group in groups for command in group])
        leases = 0
        for (seconds, micros), (offset, claiming), first, asking, left, admitted, running, *ready in replies[
            len(groups[0]) - 1 :: len(groups[0])
        ]:
            now = int(seconds) * 1000 + int(micros) // 1000 + int(offset or 0)
            paused = paused_in(claiming)
            waiting = [count for queue, count in zip(self.settings.queues, ready, strict=True) if queue not in paused]
            leases += running
            due = any(each and float(each[1]) <= now for each in (first, asking)) or left or admitted
            if any(waiting) or (due and self.workers):
                return True
        return leases > held

    def _clock_moved(self) -> None:
        for worker in self.workers:
            worker.wake()


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
