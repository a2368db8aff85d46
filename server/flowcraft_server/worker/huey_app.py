"""Huey as the executor: its consumer runs our one task in worker threads; its messages are wake-ups, ids only."""

import json
import threading
from collections.abc import Callable
from typing import Any

from huey.api import Huey
from huey.consumer import Consumer, Worker, WorkerRecycle
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import BlackHoleStorage

from flowcraft_server.worker.liveness import thread_runs
from flowcraft_server.worker.wake_ups import TASK, LocalWakeUps, WakeUps, warn_foreign

WAKE_SECONDS = 1


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
        except (ValueError, TypeError, RecursionError) as error:
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
    """Huey's storage over our wake-up lists. Nothing else of Huey's is stored."""

    blocking = True

    def __init__(self, wake_ups: WakeUps | LocalWakeUps) -> None:
        super().__init__("flowcraft")
        self._wake_ups = wake_ups

    def dequeue(self) -> bytes | None:
        """Sleep until woken, a second at most."""
        return self._wake_ups.wait(WAKE_SECONDS)


class FlowcraftHuey(Huey):  # type: ignore[misc]
    """Huey without what we do not use: no results, no revocation look-ups, no schedule."""

    def __init__(self, wake_ups: WakeUps | LocalWakeUps) -> None:
        self.wake_ups = wake_ups
        super().__init__("flowcraft", results=False, serializer=IdsOnlySerializer())

    def create_storage(self) -> WakeStorage:
        """Our storage."""
        return WakeStorage(self.wake_ups)

    def dequeue(self) -> Any:
        """The next message; one that is not ours is dropped with a log line."""
        try:
            return super().dequeue()
        except ForeignMessage as error:
            warn_foreign(error)
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


class ReplaceableWorker(Worker):  # type: ignore[misc]
    """A worker thread that ends as soon as it can when another one has taken its place."""

    replaced = False

    def loop(self, now: Any = None) -> None:
        """Sleep until woken and work, unless replaced."""
        if self.replaced:
            raise WorkerRecycle
        super().loop(now)


class WorkConsumer(Consumer):  # type: ignore[misc]
    """Huey's consumer as a part of our process: signals and the main loop are the server's."""

    scheduler_class = IdleScheduler
    worker_class = ReplaceableWorker

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.environment.is_alive = thread_runs  # Python does not notice that native code has ended a thread
        self._replacing = threading.Lock()

    def replace(self, thread: threading.Thread) -> None:
        """Start another worker thread in the place of one, which ends once its function returns."""
        with self._replacing:
            for number, (worker, known) in enumerate(self.worker_threads):
                if known is thread and not self.stop_flag.is_set():
                    worker.replaced = True
                    fresh = self._create_worker()
                    started = self._create_process(fresh, f"Worker-{number + 1}")
                    self.worker_threads[number] = (fresh, started)
                    started.start()

    def check_worker_health(self) -> bool:
        """Replace worker threads that died."""
        with self._replacing:
            return self.stop_flag.is_set() or bool(super().check_worker_health())

    def _set_signal_handlers(self) -> None:
        """The server handles signals."""

    def end(self, timeout: float) -> bool:
        """Have the worker threads end, those that sleep at once; False if some are still busy after `timeout` seconds."""
        self.stop_flag.set()
        self.huey.wake_ups.close()
        self.shutdown_timeout = timeout
        with self._replacing:
            pass  # a thread that is being replaced is made and not yet started; from here on none is replaced
        return bool(self._join_workers())


def build_consumer(wake_ups: WakeUps | LocalWakeUps, threads: int, work: Callable[[], None]) -> WorkConsumer:
    """A consumer whose worker threads call `work` whenever they are woken."""
    huey = FlowcraftHuey(wake_ups)

    def wake_up(_run: str, _node: str, _iteration: int) -> None:
        work()

    wake_up.__module__, name = TASK.split(".")
    huey.task(name=name)(wake_up)
    return WorkConsumer(huey, workers=threads, periodic=False, check_worker_health=True)
