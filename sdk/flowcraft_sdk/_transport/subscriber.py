"""One connection that receives notifications of all runs a client waits for. Waiters subscribe, *then* read, then wait."""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from flowcraft_sdk._operations.completion_inbox import CompletionInbox
from flowcraft_sdk._operations.effects import Notifications
from flowcraft_sdk._transport.subscriber_connection import BROKEN, SubscriberConnection
from flowcraft_sdk._transport.subscriptions import Subscription, SubscriptionRegistry
from flowcraft_sdk.protocol.clock import clock

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0

MOST_LEFT = 32
"""Channels of ended runs that may stay subscribed. Nothing more is published there, and unsubscribing along with the next
subscription costs less than a message of its own."""


class _ThreadFlag:
    """A flag of a subscription: setting it wakes the thread that waits for it.

    Attributes:
        wake_event: what the thread waits on; set for other reasons, too.
        is_set: whether the flag is set.
    """

    def __init__(self, wake_event: threading.Event) -> None:
        self.wake_event = wake_event
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        self.wake_event.set()

    def clear(self) -> None:
        self.is_set = False


class Subscriber:
    """A subscriber connection shared by all handles of a client. Thread-safe and fork-safe.

    It has no thread of its own: one of the waiting threads reads for all. When that thread has what it waits for, it wakes
    another one to continue reading. So a client that waits for one run wakes once, when the run has ended.

    Args:
        connect: makes an unconnected redis-py connection.
        inbox_prefix: of the channel of the client's inbox.
    """

    def __init__(self, connect: Callable[[], Any], inbox_prefix: str) -> None:
        self._connect = connect
        self._inbox_prefix = inbox_prefix
        self._reset()
        _subscribers.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards all of this, and the connection except while a thread waits on it
        self._registry = SubscriptionRegistry(CompletionInbox(self._inbox_prefix))
        self._connection: SubscriberConnection | None = None
        self._reader: threading.Event | None = None
        self._asleep: dict[threading.Event, None] = {}
        self._pause = 0.0
        self._closed = False

    def forked(self) -> None:
        """Start over in a forked child: the connection is the parent's, and so are its threads."""
        if self._pid != os.getpid():
            self._reset()

    def reserve(self, prefix: str | None = None, prefixes: Sequence[str] = ()) -> str:
        """Reserve a completion for a run about to be started: a token, '' without one; see `CompletionInbox.reserve`."""
        with self._lock:
            connected = self._connection is not None and not self._closed and not self._connection.is_stale
            self._registry.inbox.learn(prefixes)
            return self._registry.inbox.reserve(prefix) if connected else ""

    def release(self, notification_token: str) -> None:
        """Release a reserved notification that no caller is going to wait for."""
        with self._lock:
            self._registry.inbox.release(notification_token)

    def subscribe(
        self, channels: tuple[str, ...], seconds: float, *, notification_token: str | None = None
    ) -> Subscription:
        """Subscribe to channels; returns once Redis has confirmed them, after `seconds` at most.

        A subscription that Redis confirms later notifies the waiter then, so that it reads the run itself.
        """
        wake_event = threading.Event()
        ready = _ThreadFlag(wake_event)
        subscription = Subscription(channels, _ThreadFlag(wake_event), ready, notification_token=notification_token)
        with self._lock:
            if self._closed:
                return subscription
            self._registry.add(subscription)
            if self._connection is not None and self._reader is None and self._connection.is_stale:
                self._disconnect(self._connection)
            self._send_changes()
        try:
            if self._sleep(ready, seconds):
                with self._lock:
                    subscription.discard_confirmations()
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def wait(self, subscription: Subscription, seconds: float) -> Notifications:
        """Wait until a subscription has notifications, `seconds` at most, and return them."""
        notified = subscription.notified
        assert isinstance(notified, _ThreadFlag)
        self._sleep(notified, seconds)
        with self._lock:
            return subscription.take()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        with self._lock:
            self._registry.remove(subscription)
            if not subscription.has_ended or self._registry.left > MOST_LEFT:
                self._send_changes()

    def close(self) -> None:
        """Close the connection. All waiters wake and read the run themselves."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            self._registry.notify_all()
            if self._reader is not None:
                self._reader.set()
            if self._connection is not None and self._reader is not None:
                self._connection.disconnect()
            elif self._connection is not None:
                self._disconnect(self._connection)

    def _send_changes(self) -> None:
        """Send the changed subscriptions to Redis; the reading thread finds out if the connection is broken. Hold the lock."""
        if self._connection is None:
            return
        try:
            self._connection.ask(*self._registry.changes())
        except BROKEN:
            pass

    def _sleep(self, flag: _ThreadFlag, seconds: float) -> bool:
        """Wait until a flag is set, `seconds` at most; read for all meanwhile if no other thread does. Return its value."""
        until = clock() + seconds
        try:
            while True:
                with self._lock:
                    self._asleep.pop(flag.wake_event, None)
                    left = until - clock()
                    if flag.is_set or self._closed or left <= 0:
                        return flag.is_set
                    flag.wake_event.clear()
                    reads = self._reader is None
                    if reads:
                        self._reader = flag.wake_event
                    else:
                        self._asleep[flag.wake_event] = None
                if reads:
                    self._read(flag, until)
                else:
                    flag.wake_event.wait(left)
        finally:
            with self._lock:
                self._asleep.pop(flag.wake_event, None)
                if self._reader is flag.wake_event:  # interrupted before it could begin
                    self._reader = None
                if self._reader is None and self._asleep:
                    next(iter(self._asleep)).set()

    def _read(self, flag: _ThreadFlag, until: float) -> None:
        """Read for all until a flag is set, the time is over, or the connection breaks."""
        try:
            self._connect_if_needed(flag, until)
            while (
                (connection := self._connection) is not None
                and not (flag.is_set or self._closed)
                and (left := until - clock()) > 0
            ):
                readable = connection.wait(left)
                with self._lock:
                    for reply in connection.replies() if readable else ():
                        self._registry.take(reply)
                    connection.probe()
                self._pause = 0.0
        except BaseException as error:  # an interrupt may have come between reading and notifying
            with self._lock:
                if self._connection is not None:
                    self._disconnect(self._connection)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, BROKEN) and not self._closed:
                logging.getLogger("flowcraft_sdk").exception("the subscriber failed; it starts over")
        finally:
            with self._lock:
                self._reader = None
                if self._closed and self._connection is not None:
                    self._disconnect(self._connection)

    def _connect_if_needed(self, flag: _ThreadFlag, until: float) -> None:
        if self._connection is not None:
            return
        if self._pause and (flag.wake_event.wait(min(self._pause, until - clock())) or clock() >= until):
            return  # closed, or there is no time for it
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        connection = SubscriberConnection(self._connect())
        with self._lock:
            self._connection = connection
            self._send_changes()

    def _disconnect(self, connection: SubscriberConnection) -> None:
        """Close a connection that no thread waits on; the next one subscribes to everything again. Hold the lock."""
        self._connection = None
        self._registry.discard_all()
        connection.close()


_subscribers: "weakref.WeakSet[Subscriber]" = weakref.WeakSet()


def _after_fork() -> None:
    for subscriber in list(_subscribers):
        subscriber.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
