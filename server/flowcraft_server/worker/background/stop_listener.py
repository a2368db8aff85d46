"""Notifications of runs that stop, and of nodes that are ready where there are several partitions."""

import threading
from collections.abc import Callable
from typing import Any

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import connect
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.ready_notices import ReadyNotices


class StopListener:
    """Receives which runs stop, over one connection, and asks their nodes here to give up."""

    def __init__(
        self,
        url: str,
        control: AttemptControl,
        partitions: Partitions,
        stopping: threading.Event,
        wake_sweeper: Callable[[float, str], None],
        wake_scheduler: Callable[[], None],
        wake_places: Callable[[], None],
        ready: ReadyNotices | None = None,
    ) -> None:
        self._redis = connect(url)
        self._control = control
        self._control_channels = [keys.control for keys in partitions.all]
        self._message_channels = {keys.messages.encode() for keys in partitions.all}
        self._ready = ready
        self._stopping = stopping
        self._wake_sweeper = wake_sweeper
        self._wake_scheduler = wake_scheduler
        self._wake_places = wake_places

    def step(self) -> float:
        """Subscribe until the connection breaks or the process stops."""
        pubsub: Any = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with pubsub:
            pubsub.subscribe(*self._control_channels, *self._message_channels)
            if self._ready is not None:
                self._ready.begin()
            while not self._stopping.is_set():
                if self._ready is not None:
                    self._ready.subscribe(pubsub)
                message = pubsub.get_message(timeout=0.25)
                if message is not None and message["type"] == "message":
                    if self._ready is not None and self._ready.take(message["channel"], message["data"]):
                        continue
                    if message["channel"] in self._message_channels:
                        self._pass_on(*message["data"].decode().split("|", 1))
                        continue
                    run_id, why, *rest = message["data"].decode().split("|")
                    created = int(rest[0]) if rest else None
                    if why == "goes-on":
                        self._wake_sweeper(0.0, run_id)
                    elif why == "schedule":
                        self._wake_scheduler()
                    elif why == "places":
                        self._wake_places()
                    elif why == "over":
                        self._control.lose_leases_of_run(run_id, created)
                    else:
                        self._control.held.stop_run(run_id, why, created)
        return 0.0

    def _pass_on(self, run_id: str, instance_id: str) -> None:
        """Wake a handler that waits for a message."""
        attempt = self._control.held.get(run_id, instance_id)
        if attempt is not None and attempt.messages is not None:
            attempt.messages.notify()
