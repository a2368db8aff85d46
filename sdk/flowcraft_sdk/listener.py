"""One connection that hears of all runs a client waits for. Sleepers subscribe, *then* read, then sleep until told."""

import logging
import os
import selectors
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from flowcraft_sdk.steps import Heard, clock
from flowcraft_sdk.switchboard import Ear, Switchboard

QUIET = 30.0
"""Seconds without a word after which the connection is tried with a PING."""

ANSWER = 10.0
"""Seconds in which that PING is to be answered."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
BROKEN = (redis.exceptions.RedisError, OSError, ValueError)


class ListenerHub:
    """A daemon thread with a subscriber connection, shared by all handles of a client. Thread-safe and fork-safe.

    Only that thread ever touches the connection; the others leave what they want on the switchboard and ring.

    Args:
        connect: makes an unconnected redis-py connection.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._reset()
        _hubs.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._board = Switchboard()
        self._bell: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def forked(self) -> None:
        """Start over in a forked child: it has the threads' state, but not the threads."""
        if self._pid != os.getpid():
            self._reset()

    def listen(self, channels: tuple[str, ...], seconds: float) -> Ear:
        """An ear on channels; returns once Redis has confirmed them, after `seconds` at most.

        A subscription that is not confirmed in time is made good later, and tells the ear to look.
        """
        told, ready = threading.Event(), threading.Event()
        ear = Ear(channels, told, ready)
        with self._lock:
            if self._closed:
                return ear
            self._board.add(ear)
            if not ready.is_set():
                self._ring()
        try:
            if ready.wait(seconds):
                with self._lock:
                    ear.take()  # the confirmation itself is no news
        except BaseException:
            self.forget(ear)
            raise
        return ear

    def doze(self, ear: Ear, seconds: float) -> Heard:
        """Sleep until something is said to an ear, `seconds` at most."""
        told: Any = ear.told
        told.wait(seconds)
        with self._lock:
            return ear.take()

    def forget(self, ear: Ear) -> None:
        """Take an ear off."""
        with self._lock:
            self._board.remove(ear)
            if self._thread is not None:
                self._ring()

    def close(self, wait: bool = True) -> None:
        """End the thread and its connection. Sleepers are woken and look for themselves."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            thread = self._thread
            self._board.wake_all()
            if thread is not None:
                self._ring()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join(LONGEST_PAUSE * 3)

    def _ring(self) -> None:
        """Tell the thread that something has changed; starts it if need be. Called with the lock held."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="flowcraft-listener", daemon=True)
            self._thread.start()
        if self._bell is not None:
            with suppress(BlockingIOError):
                self._bell.send(b"!")
        self._changed.notify_all()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._closed or self._board.busy)
                if self._closed:
                    return
            begin = clock()
            try:
                self._connect_and_serve()
            except BROKEN:
                pass
            except Exception:
                logging.getLogger("flowcraft_sdk").exception("the listener broke; it starts over")
            pause = FIRST_PAUSE if clock() - begin > QUIET else min(pause * 2, LONGEST_PAUSE)
            with self._lock:
                self._changed.wait_for(lambda: self._closed, pause)

    def _connect_and_serve(self) -> None:
        connection = self._connect()
        try:
            connection.connect()
            self._serve(connection)
        finally:
            with suppress(*BROKEN):
                connection.disconnect()

    def _serve(self, connection: Any) -> None:
        """Subscribe, listen, and pass on what is said, until closed or broken."""
        bell, near = socket.socketpair()
        selector = selectors.DefaultSelector()
        try:
            bell.setblocking(False)
            near.setblocking(False)
            selector.register(near, selectors.EVENT_READ)
            selector.register(connection._sock, selectors.EVENT_READ)
            with self._lock:
                self._bell = bell
            self._exchange(connection, selector, near)
        finally:
            with self._lock:
                self._bell = None
                self._board.lost()
            selector.close()
            bell.close()
            near.close()

    def _exchange(self, connection: Any, selector: selectors.BaseSelector, near: socket.socket) -> None:
        silent_since, pinged = clock(), False
        while True:
            with self._lock:
                if self._closed:
                    return
                new, gone = self._board.changes()
            if new:
                connection.send_command("SUBSCRIBE", *new)
            if gone:
                connection.send_command("UNSUBSCRIBE", *gone)
            while connection.can_read(0):
                reply = connection.read_response()
                with self._lock:
                    self._board.take(reply)
                silent_since, pinged = clock(), False
            until = silent_since + QUIET + (ANSWER if pinged else 0.0)
            for key, _ in selector.select(max(0.0, until - clock())):
                if key.fileobj is near:
                    with suppress(BlockingIOError):
                        near.recv(4096)
            if clock() >= until:
                if pinged:
                    raise redis.exceptions.ConnectionError("the subscriber connection is silent")
                connection.send_command("PING")
                pinged = True


_hubs: "weakref.WeakSet[ListenerHub]" = weakref.WeakSet()


def _after_fork() -> None:
    for hub in list(_hubs):
        hub.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
