"""One connection that hears of all runs a client waits for. Sleepers subscribe, *then* read, then sleep until told."""

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis

HEARTBEAT = 1.0
LONGEST_PAUSE = 1.0


class Ear:
    """One sleeper's ear on one channel."""

    def __init__(self, hub: "ListenerHub", channel: str) -> None:
        self._hub = hub
        self.channel = channel
        self.told = threading.Event()

    def doze(self, seconds: float) -> None:
        """Sleep until something was said since the last doze, `seconds` at most."""
        self.told.wait(seconds)
        self.told.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.forget(self)


class ListenerHub:
    """A daemon thread with a subscriber connection, shared by all handles of a client. Thread-safe and fork-safe.

    Args:
        connect: makes a Redis client whose socket time-out is longer than the hub's heartbeat.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ears: dict[str, set[Ear]] = {}
        self._confirmed: set[str] = set()
        self._changed = threading.Condition(self._lock)
        self._pubsub: Any = None
        self._redis: Any = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def listen(self, channel: str, timeout: float = 5.0) -> Ear:
        """An ear on a channel; returns once Redis has confirmed the subscription, or after `timeout` seconds.

        A subscription that is not confirmed in time is made good later; the sleeper looks by itself now and then.
        """
        if self._pid != os.getpid():
            self._reset()  # a fork copied the threads' state but not the threads
        ear = Ear(self, channel)
        with self._lock:
            self._ears.setdefault(channel, set()).add(ear)
            self._start()
            if channel not in self._confirmed and len(self._ears[channel]) == 1:
                self._subscribe(channel)
            self._changed.notify_all()
            self._changed.wait_for(lambda: channel in self._confirmed or self._closed, timeout)
        return ear

    def doze_any(self, ears: "list[Ear]", seconds: float) -> None:
        """Sleep until something was said to any of these ears, `seconds` at most."""
        with self._lock:
            self._changed.wait_for(lambda: self._closed or any(ear.told.is_set() for ear in ears), seconds)
        for ear in ears:
            ear.told.clear()

    def forget(self, ear: Ear) -> None:
        """Take an ear off; the last one on a channel ends its subscription."""
        with self._lock:
            ears = self._ears.get(ear.channel)
            if ears is None:
                return
            ears.discard(ear)
            if ears:
                return
            del self._ears[ear.channel]
            self._confirmed.discard(ear.channel)
            if self._pubsub is not None:
                try:
                    self._pubsub.unsubscribe(ear.channel)
                except (redis.exceptions.RedisError, OSError):
                    self._drop()

    def close(self) -> None:
        """End the thread and its connection."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(HEARTBEAT * 3)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._closed = False
            self._thread = threading.Thread(target=self._run, name="flowcraft-listener", daemon=True)
            self._thread.start()

    def _subscribe(self, channel: str) -> None:
        """Ask for a channel; a broken connection is mended by the thread, which asks for all of them."""
        if self._pubsub is None:
            return
        try:
            self._pubsub.subscribe(channel)
        except (redis.exceptions.RedisError, OSError):
            self._drop()

    def _drop(self) -> None:
        """Give the connection up; called with the lock held."""
        pubsub, self._pubsub = self._pubsub, None
        self._confirmed.clear()
        if pubsub is not None:
            try:
                pubsub.close()
            except (redis.exceptions.RedisError, OSError):
                pass

    def _run(self) -> None:
        pause = 0.02
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._closed or self._ears)
                if self._closed:
                    self._drop()
                    if self._redis is not None:
                        self._redis.close()
                        self._redis = None
                    return
            try:
                self._hear()
                pause = 0.02
            except (redis.exceptions.RedisError, OSError, ValueError, AttributeError):
                with self._lock:
                    self._drop()
                    self._tell_all()
                    self._changed.wait_for(lambda: self._closed, pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _hear(self) -> None:
        """Connect if need be, then pass on one message."""
        with self._lock:
            if self._pubsub is None:
                if self._redis is None:
                    self._redis = self._connect()
                self._pubsub = self._redis.pubsub()
                self._pubsub.subscribe(*self._ears)
            pubsub = self._pubsub
        message = pubsub.get_message(timeout=HEARTBEAT)
        if message is None:
            return
        channel = message["channel"]
        name = channel.decode() if isinstance(channel, bytes) else channel
        with self._lock:
            if message["type"] == "subscribe" and name in self._ears:
                self._confirmed.add(name)
                self._changed.notify_all()
            for ear in self._ears.get(name, ()):
                ear.told.set()
            self._changed.notify_all()

    def _tell_all(self) -> None:
        """The connection broke: something may have been missed, so everybody looks for himself."""
        for ears in self._ears.values():
            for ear in ears:
                ear.told.set()
