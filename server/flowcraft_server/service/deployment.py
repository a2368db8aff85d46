"""A deployment and its Redis: what is checked before it is used, what is published, and which processes make it up."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk import BackendUnavailableError, Client
from flowcraft_sdk._operations.missing_handlers import missing_handlers
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.config.blueprint_cache import KeptBlueprints
from flowcraft_server.config.blueprint_files import handler_routes
from flowcraft_server.config.handler import routes_of
from flowcraft_server.config.limits import limits_of, run_limits_of
from flowcraft_server.config.load import LoadResult
from flowcraft_server.config.model import Settings
from flowcraft_server.config.schedules import schedules_of
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import WrongPartitions, publish_blueprints, publish_settings
from flowcraft_server.store.schedules import publish_schedules

from .api_process import ApiProcess
from .components import Component
from .isolation import IsolationProcesses, give_up_worker
from .namespace_peers import (
    NamespacePeers,
    deployment_id,
    file_of,
    look_around,
    note_publisher,
    read_published,
)
from .namespace_peers import warnings_about as peer_warnings
from .program import replaced_worker, restart_this_program
from .redis_checks import (
    RedisUnusable,
    check_durability,
    check_protocol,
    find_problems,
    shown_url,
    wait_for_redis,
    warnings_about,
)
from .stopping import StopRequests
from .supervisor import Supervisor, child_command

URL_VARIABLE = "FLOWCRAFT__REDIS__URL"
LISTEN_SECONDS = 1.0
"""Seconds for which a start waits for the address of the HTTP API."""

LEASES_OF_SILENCE = 3
LEAST_SILENCE = 10.0
"""Seconds. A worker process that was not seen for this long, or for three leases, is killed and started again."""


@dataclass(frozen=True)
class Published:
    """What a deployment has published.

    Attributes:
        hashes: of the plan of each of its blueprints, by id.
        before: what was published under its name until then, and which others serve it.
    """

    hashes: Mapping[str, str]
    before: NamespacePeers


@dataclass(frozen=True)
class Deployment:
    """A loaded deployment and the Redis it is to run on.

    Attributes:
        loaded: without errors.
        settings: of `loaded`.
        url: of Redis.
        supervised: this process is one of several that a supervisor starts again when they end.
        single: it runs one function at a time.
        isolated: it runs nothing but suspects of lost workers.
        worker_id: the name that its supervisor knows it by.
        executing: descriptor of the record of what it executes.
        overrides: settings that were given to this start, by dotted path.
        command: which command of `flowcraft-server` has started it.
    """

    loaded: LoadResult
    settings: Settings
    url: str
    supervised: bool = False
    single: bool = False
    isolated: bool = False
    worker_id: str = ""
    executing: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    command: str = "run"

    @property
    def profile(self) -> str | None:
        """The name of its profile."""
        return self.loaded.profile

    @property
    def id(self) -> str:
        """What distinguishes this deployment from others."""
        return deployment_id(self.loaded.path)

    @property
    def partitions(self) -> Partitions:
        """Its partitions."""
        return Partitions(self.settings.name, self.settings.redis.partitions)

    def open_redis(self, stop: StopRequests, *, lenient: bool) -> "redis.Redis":
        """Wait for Redis and check it.

        Args:
            lenient: whether a Redis that may lose data is only warned about.

        Raises:
            RedisUnusable: it does not answer, may lose data, holds runs of another protocol, or cannot keep data as
                `redis.durability` wants.
        """
        client = wait_for_redis(self.url, self.settings.redis.connect_timeout, stop.wait)
        for problem in find_problems(client, self.url):
            if not lenient and self.settings.redis.require_no_eviction:
                raise RedisUnusable(f"{problem}; or set redis.requireNoEviction: off and accept the loss")
            logger.warning(problem)
        for warning in warnings_about(client, self.url, self.partitions.count):
            logger.warning(warning)
        check_protocol(client, self.url, self.partitions)
        check_durability(client, self.url, self.partitions.home, self.settings.redis.durability)
        return client

    def publish(self, client: "redis.Redis") -> "Published":
        """Publish blueprints, schedules and settings; returns the hash of each blueprint's plan, and what was there before.

        Raises:
            RedisUnusable: Redis refused.
        """
        partitions = self.partitions
        keys = partitions.home
        routes = routes_of(self.loaded.handlers)
        try:
            before = look_around(client, keys, self.id)
            unchanged = self._unchanged(client, partitions)
            blueprints = self.loaded.blueprints
            if isinstance(blueprints, KeptBlueprints):
                blueprints = [blueprints.of(name) for name in blueprints.ids if name not in unchanged]
            self._publish_settings(client)
            hashes = publish_blueprints(client, partitions, blueprints, routes, unchanged)
            note_publisher(client, keys, before, hashes, self.id)
            self._publish_schedules(client)
        except WrongPartitions as error:  # another server has published at the same time
            raise RedisUnusable(f"{shown_url(self.url)}: {error}") from None
        except redis.exceptions.RedisError as error:
            raise RedisUnusable(
                f"{shown_url(self.url)}: blueprints and schedules could not be published: {error}"
            ) from error
        if self.loaded.kept is not None:
            self.loaded.kept.keep_plans(hashes)
        return Published(hashes, before)

    def publish_some(self, client: "redis.Redis", names: Sequence[str], hashes: Mapping[str, str]) -> None:
        """Publish the settings, the schedules and some of the blueprints, while a deployment runs.

        Args:
            names: ids of those that have changed.
            hashes: of the plans of all blueprints, by id.

        Raises:
            redis.exceptions.RedisError: Redis refused.
        """
        self._publish_settings(client)
        self._publish_schedules(client)
        if not names:
            return
        home = self.partitions.home
        before = NamespacePeers(read_published(client, home), {})
        chosen = [blueprint for blueprint in self.loaded.blueprints if blueprint.id in set(names)]
        fresh = publish_blueprints(
            client, self.partitions, chosen, handler_routes(self.settings), kept=list(hashes.values())
        )
        note_publisher(client, home, before, fresh, self.id)

    def _publish_schedules(self, client: "redis.Redis") -> None:
        schedules = schedules_of(self.settings.schedules)
        for name in publish_schedules(client, self.partitions, schedules, self.id):
            logger.info("schedule '{}' is in {} no more, and was removed", name, self.loaded.path.name)

    def _publish_settings(self, client: "redis.Redis") -> None:
        settings = self.settings
        publish_settings(
            client,
            self.partitions,
            history=settings.history.enabled,
            max_events=settings.history.events,
            cancel_grace_ms=round(settings.executor.cancel_grace * 1000),
            durability=settings.redis.durability,
            limits=limits_of(settings),
            run_limits=run_limits_of(settings),
        )

    def peers(self, client: "redis.Redis") -> NamespacePeers:
        """Others that publish or serve under this name: for the log of a start, which does not depend on it."""
        if self.supervised:
            return NamespacePeers({}, {})
        try:
            return look_around(client, self.partitions.home, self.id)
        except redis.exceptions.RedisError as error:
            logger.debug("it cannot be read which others serve '{}': {}", self.settings.name, error)
            return NamespacePeers({}, {})

    def look_for_others(self, client: "redis.Redis") -> list[str]:
        """What speaks for another deployment of the same name, without publishing anything.

        Raises:
            RedisUnusable: Redis refused.
        """
        try:
            before = look_around(client, self.partitions.home, self.id)
        except redis.exceptions.RedisError as error:
            raise RedisUnusable(f"{shown_url(self.url)}: {error}") from error
        live = {file_of(by) for by in before.others(self.id)}
        foreign = {name for name, known in before.published.items() if file_of(known.by) in live}
        routes = routes_of(self.loaded.handlers)
        ours = [blueprint for blueprint in self.loaded.blueprints if blueprint.id in foreign]
        return peer_warnings(
            before, self.id, {blueprint.id: compile_blueprint(blueprint, routes).hash for blueprint in ours}
        )

    def look_for_missing_handlers(self) -> list[str]:
        """Live runs that need a handler which neither this deployment nor another one that serves the name has.

        Raises:
            RedisUnusable: Redis refused.
        """
        own = file_of(self.id)
        with Client(self.url, namespace=self.settings.name) as client:
            try:
                others = [worker for worker in client.workers() if file_of(worker.deployment) != own]
                if any(worker.handlers is None for worker in others):
                    return []  # of a release that does not report what it has
                known = {*self.loaded.handlers, *(name for worker in others for name in worker.handlers or ())}
                return [each.explanation for each in client.driver.run(missing_handlers(client.deployment, known))]
            except BackendUnavailableError as error:
                raise RedisUnusable(f"{shown_url(self.url)}: {error}") from error

    def _unchanged(self, client: "redis.Redis", partitions: Partitions) -> dict[str, str]:
        """Blueprints that have not changed since an earlier start, and whose plans are still in Redis."""
        if self.loaded.kept is None or not isinstance(self.loaded.blueprints, KeptBlueprints):
            return {}
        plans = self.loaded.kept.plans()
        names = [name for name in self.loaded.blueprints.ids if name in plans]
        pipe = client.pipeline(transaction=False)
        for name in names:
            for keys in partitions.all:
                pipe.exists(keys.plan(plans[name]))
        there, count = pipe.execute(), partitions.count
        return {name: plans[name] for at, name in enumerate(names) if all(there[at * count : (at + 1) * count])}

    def build_workers(self) -> list[Component]:
        """The components that run nodes: a worker in this process, or processes with one each, and what runs suspects apart.

        Raises:
            LLMSettingsError: the language models cannot be set up.
        """
        executor = self.settings.executor
        count = executor.workers if executor.worker_type == "process" else executor.processes
        worker = self._build_worker() if self.supervised or (executor.worker_type != "process" and count == 1) else None
        if worker is not None and self.supervised:
            return [worker]
        partitions = self.partitions
        command, environ = self._child_command(), self.child_environ(os.environ)
        max_silence = max(LEASES_OF_SILENCE * executor.lease, LEAST_SILENCE)
        isolation = IsolationProcesses(
            self.url, partitions, executor.queues, executor.max_crashes, [*command, "--isolated"], environ, max_silence
        )
        if worker is not None:
            return [isolation, worker]
        link = StoreLink(self.url)
        supervisor = Supervisor(
            command,
            count,
            environ,
            lambda worker, record: give_up_worker(link, partitions, worker, executor.max_crashes, record),
            max_silence,
            executor.drain_timeout,
        )
        return [isolation, supervisor]

    def build_api(self) -> ApiProcess | None:
        """The process of the HTTP API, which listens from now on; None where it is switched off."""
        settings = self.settings.api
        if not settings.enabled:
            return None
        process = ApiProcess(
            settings.host,
            settings.port,
            child_command("api", *self._shared_arguments()),
            self.child_environ(os.environ),
        )
        problem = process.open(LISTEN_SECONDS)
        if problem:
            logger.warning("{}; it is tried again and again, and nodes run all the same", problem)
        return process

    def give_up_replaced(self) -> None:
        """Give up what a worker of this very process held, if the process was replaced; its leases run out in any case."""
        worker = replaced_worker()
        if not worker:
            return
        link = StoreLink(self.url)
        try:
            give_up_worker(link, self.partitions, worker, self.settings.executor.max_crashes, None)
        except (redis.exceptions.RedisError, OSError) as error:
            logger.warning("what this process ran before it was replaced cannot be given up at once: {}", error)
        finally:
            link.close()

    def _build_worker(self) -> Component:
        # A process that only checks, or only watches over others, does without what runs nodes.
        from flowcraft_server.worker.lost_threads import end_this_process

        from .worker import build_worker

        return build_worker(
            self.url,
            self.settings,
            self.loaded.handlers,
            self.loaded.folder,
            single=self.single,
            isolated=self.isolated,
            worker_id=self.worker_id,
            executing=self.executing,
            replace_process=end_this_process if self.supervised else restart_this_program,
            secrets=self.loaded.secrets,
            deployment=self.id,
            lifespan=self.loaded.lifespan,
        )

    def _child_command(self) -> list[str]:
        arguments = ["worker", *self._shared_arguments()]
        if self.settings.executor.worker_type == "process":
            arguments.append("--single")
        else:
            arguments += ["--workers", str(self.settings.executor.workers)]
        for queue in self.settings.executor.queues:
            arguments += ["--queue", queue]
        return child_command(*arguments)

    def _shared_arguments(self) -> list[str]:
        """The options that all child processes have."""
        profile = ["--profile", self.loaded.profile] if self.loaded.profile else []
        return ["--config", str(self.loaded.path), "--log-level", self.settings.logging.level, *profile]

    def child_environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process that is started for this deployment: with the address of its Redis."""
        # By the environment and not by an argument, which everybody on the machine can read.
        inherited = {name: value for name, value in environ.items() if name.upper() != URL_VARIABLE}
        return {**inherited, URL_VARIABLE: self.url}
