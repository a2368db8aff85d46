"""Starts a deployment on a Redis: checks it, publishes the blueprints, runs the workers until a stop is asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis
from loguru import logger

from flowcraft_sdk import BackendUnavailableError, Client
from flowcraft_sdk._operations.missing_handlers import missing_handlers
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.config.blueprint_cache import KeptBlueprints
from flowcraft_server.config.load import LoadResult
from flowcraft_server.config.model import Settings
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.store.publish import WrongPartitions, publish_blueprints, publish_settings
from flowcraft_server.worker.lost_threads import end_this_process

from .components import Component, serve
from .isolation import IsolationProcesses, give_up_worker
from .namespace_peers import (
    NamespacePeers,
    deployment_id,
    file_of,
    listed_publications,
    listed_workers,
    look_around,
    note_publisher,
)
from .namespace_peers import warnings_about as peer_warnings
from .program import replaced_worker, restart_this_program
from .publishing import KeptPublished
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
from .worker import build_worker

URL_VARIABLE = "FLOWCRAFT__REDIS__URL"
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
    """

    loaded: LoadResult
    settings: Settings
    url: str
    supervised: bool = False
    single: bool = False
    isolated: bool = False
    worker_id: str = ""
    executing: int | None = None

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
        """Publish blueprints and settings; returns the hash of each blueprint's plan, and what was there before.

        Raises:
            RedisUnusable: Redis refused.
        """
        partitions, settings = self.partitions, self.settings
        keys = partitions.home
        queues = {name: handler.queue for name, handler in self.loaded.handlers.items() if handler.queue}
        try:
            before = look_around(client, keys, self.id)
            unchanged = self._unchanged(client, partitions)
            blueprints = self.loaded.blueprints
            if isinstance(blueprints, KeptBlueprints):
                blueprints = [blueprints.of(name) for name in blueprints.ids if name not in unchanged]
            publish_settings(
                client,
                partitions,
                history=settings.history.enabled,
                max_events=settings.history.events,
                cancel_grace_ms=round(settings.executor.cancel_grace * 1000),
                durability=settings.redis.durability,
            )
            hashes = publish_blueprints(client, partitions, blueprints, queues, unchanged)
            note_publisher(client, keys, before, hashes, self.id)
        except WrongPartitions as error:  # another server has published at the same time
            raise RedisUnusable(f"{shown_url(self.url)}: {error}") from None
        except redis.exceptions.RedisError as error:
            raise RedisUnusable(f"{shown_url(self.url)}: the blueprints could not be published: {error}") from error
        if self.loaded.kept is not None:
            self.loaded.kept.keep_plans(hashes)
        return Published(hashes, before)

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
        queues = {name: handler.queue for name, handler in self.loaded.handlers.items() if handler.queue}
        ours = [blueprint for blueprint in self.loaded.blueprints if blueprint.id in foreign]
        return peer_warnings(
            before, self.id, {blueprint.id: compile_blueprint(blueprint, queues).hash for blueprint in ours}
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
        command, environ = self._child_command(), self._child_environ(os.environ)
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
        )
        return [isolation, supervisor]

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
        )

    def _child_command(self) -> list[str]:
        arguments = [
            "worker",
            "--config",
            str(self.loaded.path),
            "--log-level",
            self.settings.logging.level,
        ]
        if self.settings.executor.worker_type == "process":
            arguments.append("--single")
        else:
            arguments += ["--workers", str(self.settings.executor.workers)]
        if self.loaded.profile:
            arguments += ["--profile", self.loaded.profile]
        for queue in self.settings.executor.queues:
            arguments += ["--queue", queue]
        return child_command(*arguments)

    def _child_environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        # By the environment and not by an argument, which everybody on the machine can read.
        inherited = {name: value for name, value in environ.items() if name.upper() != URL_VARIABLE}
        return {**inherited, URL_VARIABLE: self.url}


class KeptStore:
    """The embedded store as a component: it is started again should it die. The server that started it also stops it."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    def start(self) -> None:
        """It runs by now."""

    def health(self) -> Sequence[str]:
        """Start it again if it has died.

        Raises:
            StoreError: it does not start again.
        """
        if self._store.ensure_running():
            return ["the embedded store had died; it was started again with all that it had answered"]
        return ()

    def drain(self, deadline: float) -> bool:
        """It is needed until the workers have stopped. See `Component`."""
        return True

    def stop(self) -> bool:
        """Nothing: others of this process still use it."""
        return True


def run_deployment(
    deployment: Deployment,
    stop: StopRequests,
    *,
    publish: bool = True,
    lenient: bool = False,
    started: Callable[[Published], None] = lambda _published: None,
    store: EmbeddedStore | None = None,
) -> bool:
    """Run a deployment until a stop is asked for; returns whether all that ran could finish.

    Args:
        publish: whether the blueprints are to be published, or others do that.
        lenient: whether a Redis that may lose data is only warned about.
        started: called with what was published when Redis is ready.
        store: the embedded store, if the deployment runs on it; it is started again should it die.

    Raises:
        RedisUnusable: Redis does not answer, may lose data, or refuses us.
        LLMSettingsError: the language models cannot be set up.
        StoreError: the embedded store died and does not start again.
    """
    settings = deployment.settings
    client = deployment.open_redis(stop, lenient=lenient)
    published = deployment.publish(client) if publish else Published({}, deployment.peers(client))
    components: list[Component] = []
    if store is not None:
        components.append(KeptStore(store))
    if publish:
        pause, partitions = settings.executor.heartbeat, deployment.partitions
        components.append(
            KeptPublished(
                client,
                partitions,
                published.hashes,
                lambda: deployment.publish(client),
                pause,
                deployment.id,
            )
        )
    deployment.give_up_replaced()
    components += deployment.build_workers()
    started(published)
    _log_start(deployment, published)
    try:
        finished = serve(components, stop, settings.executor.drain_timeout)
    finally:
        client.close()
    logger.info("stopped{}", "" if finished else "; what had not finished was handed back")
    return finished


def _log_start(deployment: Deployment, published: Published) -> None:
    """Say what is served, where, what publishing it changed, and which others serve the name. A supervised worker says less."""
    settings = deployment.settings
    queues = ", ".join(settings.executor.queues)
    if deployment.supervised:
        logger.info("serving '{}' on queue {}", settings.name, queues)
        return
    before, hashes = published.before, published.hashes
    blueprints = listed_publications(before, hashes) if hashes else f"{len(before.published)} that others published"
    place = shown_url(deployment.url)
    logger.info("serving '{}' on queue {}, at {}; blueprints: {}", settings.name, queues, place, blueprints)
    if before.workers:
        logger.info("'{}' is served by {} as well", settings.name, listed_workers(before.workers))
    for warning in peer_warnings(before, deployment.id, published.hashes):
        logger.warning(warning)
    try:
        for warning in deployment.look_for_missing_handlers():
            logger.warning(warning)
    except RedisUnusable as error:
        logger.debug("it cannot be seen whether runs need handlers that are gone: {}", error)
