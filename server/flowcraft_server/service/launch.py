"""Starts a deployment on a Redis: checks it, publishes the blueprints, runs the workers until a stop is asked for."""

from collections.abc import Callable, Sequence

from loguru import logger

from flowcraft_server.store.embedded import EmbeddedStore

from .components import Component, serve
from .deployment import Deployment, Published
from .listening import url_of
from .namespace_peers import (
    listed_publications,
    listed_workers,
)
from .namespace_peers import warnings_about as peer_warnings
from .operation import Operation
from .publishing import KeptPublished
from .redis_checks import (
    RedisUnusable,
    shown_url,
)
from .stopping import StopRequests


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
    started: Callable[[Published, str], None] = lambda _published, _api: None,
    store: EmbeddedStore | None = None,
) -> bool:
    """Run a deployment until a stop is asked for; returns whether all that ran could finish.

    Args:
        publish: whether the blueprints are to be published, or others do that.
        lenient: whether a Redis that may lose data is only warned about.
        started: called with what was published when Redis is ready, and with the address of the HTTP API, '' for none.
        store: the embedded store, if the deployment runs on it; it is started again should it die.

    Raises:
        RedisUnusable: Redis does not answer, may lose data, or refuses us.
        LLMSettingsError: the language models cannot be set up.
        StoreError: the embedded store died and does not start again.
    """
    settings = deployment.settings
    client = deployment.open_redis(stop, lenient=lenient)
    published = deployment.publish(client) if publish else Published({}, deployment.peers(client))
    kept = None
    if publish:
        pause, partitions = settings.executor.heartbeat, deployment.partitions
        kept = KeptPublished(
            client, partitions, published.hashes, lambda: operation.deployment.publish(client), pause, deployment.id
        )
    deployment.give_up_replaced()
    workers = deployment.build_workers()
    operation = Operation(deployment, client, kept, workers, stop)
    components: list[Component] = [KeptStore(store)] if store is not None else []
    components += [*operation.components, *([kept] if kept is not None else []), *workers]
    api = deployment.build_api() if publish else None
    if api is not None:
        components.append(api)
    listening = None if api is None else api.listening
    started(published, "" if listening is None else url_of(listening))
    _log_start(deployment, published)
    finished = False
    try:
        finished = serve(components, stop, settings.executor.drain_timeout)
    finally:
        operation.leave(finished)
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
