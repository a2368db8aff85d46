"""The async subscriber: one connection and one task receive notifications of all runs an async client waits for."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis

from flowcraft_sdk._operations.completion_inbox import CompletionInbox
from flowcraft_sdk._operations.effects import Notifications
from flowcraft_sdk._transport.subscriber import FIRST_PAUSE, LONGEST_PAUSE
from flowcraft_sdk._transport.subscriber_connection import ANSWER, BROKEN, QUIET
from flowcraft_sdk._transport.subscriptions import Subscription, SubscriptionRegistry
from flowcraft_sdk.protocol.clock import clock


class AsyncSubscriber:
    """A task with a subscriber connection, shared by all handles of a client.

    Args:
        connect: makes an unconnected redis-py connection.
        inbox_prefix: of the channel of the client's inbox.
    """

    def __init__(self, connect: Callable[[], Any], inbox_prefix: str) -> None:
        self._connect = connect
        self._registry = SubscriptionRegistry(CompletionInbox(inbox_prefix))
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._silent_since = 0.0
        self._closed = False

    def reserve(self, prefix: str | None = None, prefixes: Sequence[str] = ()) -> str:
        """Reserve a completion for a run about to be started: a token, '' without one; see `CompletionInbox.reserve`."""
        self._registry.inbox.learn(prefixes)
        return "" if self._closed else self._registry.inbox.reserve(prefix)

    def release(self, notification_token: str) -> None:
        """Release a reserved notification that no caller is going to wait for."""
        self._registry.inbox.release(notification_token)

    async def subscribe(
        self, channels: tuple[str, ...], seconds: float, *, notification_token: str | None = None
    ) -> Subscription:
        """Subscribe to channels; returns once Redis has confirmed them, after `seconds` at most.

        A subscription that Redis confirms later notifies the waiter then, so that it reads the run itself.
        """
        notified, ready = asyncio.Event(), asyncio.Event()
        subscription = Subscription(channels, notified, ready, notification_token=notification_token)
        if self._closed:
            return subscription
        self._registry.add(subscription)
        try:
            if not ready.is_set():
                self._wake_task()
                await _set_in_time(ready, seconds)
            if ready.is_set():
                subscription.discard_confirmations()
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    async def wait(self, subscription: Subscription, seconds: float) -> Notifications:
        """Wait until a subscription has notifications, `seconds` at most, and return them."""
        await _set_in_time(subscription.notified, seconds)
        return subscription.take()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        self._registry.remove(subscription)
        self._changed.set()

    async def close(self) -> None:
        """End the task and its connection. All waiters wake and read the run themselves."""
        self._closed = True
        self._registry.notify_all()
        self._changed.set()
        if self._task is not None:
            self._task.cancel()  # redis-py's wait_for may swallow this on Python 3.11, hence the flag besides
            await asyncio.wait({self._task})

    def _wake_task(self) -> None:
        """Wake the task because the subscriptions have changed; start it if need be."""
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="flowcraft-subscriber")
        self._changed.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            while not self._registry.busy and not self._closed:
                self._changed.clear()
                await self._changed.wait()
            begin = clock()
            try:
                await self._connect_and_serve()
            except BROKEN:
                pass
            except Exception:
                logging.getLogger("flowcraft_sdk").exception("the subscriber failed; it starts over")
            pause = FIRST_PAUSE if clock() - begin > QUIET else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _connect_and_serve(self) -> None:
        connection = self._connect()
        reader: asyncio.Task[None] | None = None
        try:
            await connection.connect()
            reader = asyncio.create_task(self._read(connection))
            await self._send_changes(connection, reader)
        finally:
            self._registry.discard_all()
            if reader is not None:
                reader.cancel()
                with suppress(asyncio.CancelledError, *BROKEN):
                    await reader
            with suppress(*BROKEN):
                await connection.disconnect(nowait=True)

    async def _read(self, connection: Any) -> None:
        while True:
            reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            self._silent_since = clock()
            self._registry.take(reply)

    async def _send_changes(self, connection: Any, reader: "asyncio.Task[None]") -> None:
        """Subscribe and unsubscribe as subscriptions change, and PING when it is quiet, until the reader fails."""
        self._silent_since, pinged = clock(), False
        while not self._closed:
            self._changed.clear()
            new, gone = self._registry.changes()
            if new:
                await connection.send_command("SUBSCRIBE", *new)
            if gone:
                await connection.send_command("UNSUBSCRIBE", *gone)
            silence = clock() - self._silent_since
            pinged = pinged and silence >= QUIET
            if pinged and silence >= QUIET + ANSWER:
                raise redis.exceptions.ConnectionError("the subscriber connection is silent")
            if not pinged and silence >= QUIET:
                await connection.send_command("PING")
                pinged = True
            change = asyncio.create_task(self._changed.wait())
            try:
                left = QUIET + (ANSWER if pinged else 0.0) - silence
                await asyncio.wait({reader, change}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
            if reader.done():
                await reader


async def _set_in_time(event: Any, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # wait_for can swallow the cancellation of the caller's task
            await event.wait()
