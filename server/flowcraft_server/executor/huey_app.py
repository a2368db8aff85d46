"""Huey as the executor: its consumer runs our one task in worker threads; its messages are wake-ups, ids only."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from huey.api import Huey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import BlackHoleStorage
from loguru import logger

from flowcraft_server.store.link import StoreLink, StoreUnavailable

TASK = "flowcraft.work"
WAKE_SECONDS = 1
AWAY_PAUSE = 0.2
"""Seconds between tries while Redis is away."""


class ForeignMessage(ValueError):
    """Something in the queue that is not a message of ours."""


class IdsOnlySerializer(Serializer):  # type: ignore[misc]
    """JSON `[id, "flowcraft.work", [run, node, iteration]]`, and nothing else in either direction."""

    def _serialize(self, data: Any) -> bytes:
        if not isinstance(data, Message) or data.name != TASK or data.kwargs:
            raise ForeignMessage(f"only {TASK} messages are queued, got {data!r}")
        return json.dumps([data.id, data.name, list(data.args or ())]).encode()

    def _deserialize(self, data: bytes) -> Message:
        try:
            message_id, name, args = json.loads(data)
        except (ValueError, TypeError) as error:
            raise ForeignMessage(f"{data[:80]!r}") from error
        if name != TASK or not isinstance(message_id, str) or not _is_ids(args):
            raise ForeignMessage(f"{data[:80]!r}")
        return Message(message_id, name, args=tuple(args), kwargs={}, retries=0, retry_delay=0)


def _is_ids(args: Any) -> bool:
    return (
        isinstance(args, list)
        and len(args) == 3
        and isinstance(args[0], str)
        and isinstance(args[1], str)
        and isinstance(args[2], int)
    )


class WakeStorage(BlackHoleStorage):  # type: ignore[misc]
    """Huey's storage over our wake-up lists, one for each queue served. Nothing else of Huey's is stored.

    A thread sleeps on the connection over which it claims: redis-py's `brpop` takes half as long again as being woken does.
    """

    blocking = True

    def __init__(self, link: StoreLink, wake_keys: Sequence[str]) -> None:
        super().__init__("flowcraft")
        self._link = link
        self._wake_keys = list(wake_keys)
        self._closed = threading.Event()
        self._away = False

    def dequeue(self) -> bytes | None:
        """Sleep until woken, a second at most."""
        if self._closed.is_set():
            return None
        try:
            found = self._link.sleep(self._wake_keys, WAKE_SECONDS)
        except StoreUnavailable as error:
            if not self._closed.is_set() and not self._away:  # once for an outage, and not for each thread and try
                self._away = True
                logger.warning("cannot wait for work: {}", error)
            self._closed.wait(AWAY_PAUSE)
            return None
        self._away = False
        return found

    def interrupt(self) -> None:
        """Wake all sleepers for good."""
        self._closed.set()
        self._link.wake_sleepers()


class FlowcraftHuey(Huey):  # type: ignore[misc]
    """Huey without what we do not use: no results, no revocation look-ups, no schedule."""

    def __init__(self, link: StoreLink, wake_keys: Sequence[str]) -> None:
        self._link = link
        self._wake_keys = wake_keys
        super().__init__("flowcraft", results=False, serializer=IdsOnlySerializer())

    def create_storage(self) -> WakeStorage:
        """Our storage."""
        return WakeStorage(self._link, self._wake_keys)

    def dequeue(self) -> Any:
        """The next message; one that is not ours is dropped with a log line."""
        try:
            return super().dequeue()
        except ForeignMessage as error:
            logger.warning("dropped a message that is not ours: {}", error)
            return None

    def is_revoked(self, *_args: Any, **_kwargs: Any) -> bool:
        """Runs are cancelled in the engine, never by Huey."""
        return False

    def delete(self, _key: str) -> bool:
        """There is no revocation to forget."""
        return True


class IdleScheduler:
    """Stands where Huey's scheduler would be: timers are the engine's."""

    def __init__(self, *, stop_flag: threading.Event, **_options: Any) -> None:
        self._stop_flag = stop_flag

    def initialize(self) -> None:
        """Nothing to set up."""

    def loop(self, now: Any = None) -> None:
        """Sleep until the consumer stops."""
        self._stop_flag.wait()

    def shutdown(self) -> None:
        """Nothing to tear down."""


class WorkConsumer(Consumer):  # type: ignore[misc]
    """Huey's consumer as a part of our process: signals and the main loop are the server's."""

    scheduler_class = IdleScheduler

    def _set_signal_handlers(self) -> None:
        """The server handles signals."""

    def end(self, timeout: float) -> bool:
        """Have the worker threads end, those that sleep at once; False if some are still busy after `timeout` seconds."""
        self.stop_flag.set()
        self.huey.storage.interrupt()
        self.shutdown_timeout = timeout
        return bool(self._join_workers())


def build_consumer(link: StoreLink, wake_keys: Sequence[str], threads: int, work: Callable[[], None]) -> WorkConsumer:
    """A consumer whose worker threads call `work` whenever they are woken."""
    huey = FlowcraftHuey(link, wake_keys)

    def wake_up(_run: str, _node: str, _iteration: int) -> None:
        work()

    wake_up.__module__, name = TASK.split(".")
    huey.task(name=name)(wake_up)
    return WorkConsumer(huey, workers=threads, periodic=False, check_worker_health=True)
