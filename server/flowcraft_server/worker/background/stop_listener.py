"""Notifications of runs that stop."""

import threading
from collections.abc import Callable
from typing import Any

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import connect
from flowcraft_server.worker.attempt_control import AttemptControl


class StopListener:
    """Receives which runs stop, over one connection, and asks their nodes here to give up."""

    def __init__(
        self,
        url: str,
        control: AttemptControl,
        keys: Keys,
        stopping: threading.Event,
        wake_sweeper: Callable[[float], None],
    ) -> None:
        self._redis = connect(url)
        self._control = control
        self._keys = keys
        self._stopping = stopping
        self._wake_sweeper = wake_sweeper

    def step(self) -> float:
        """Subscribe until the connection breaks or the process stops."""
        pubsub: Any = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with pubsub:
            pubsub.subscribe(self._keys.control)
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=0.25)
                if message is not None and message["type"] == "message":
                    run_id, why, *rest = message["data"].decode().split("|")
                    created = int(rest[0]) if rest else None
                    if why == "goes-on":
                        self._wake_sweeper(0.0)
                    elif why == "over":
                        self._control.lose_leases_of_run(run_id, created)
                    else:
                        self._control.held.stop_run(run_id, why, created)
        return 0.0
