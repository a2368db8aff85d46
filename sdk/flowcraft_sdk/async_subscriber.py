"""The async half of listening: one connection and one task hear of all runs an async client waits for."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from flowcraft_sdk.inbox import Inbox
from flowcraft_sdk.listener import FIRST_PAUSE, LONGEST_PAUSE
from flowcraft_sdk.steps import Heard, clock
from flowcraft_sdk.subscriber_line import ANSWER, BROKEN, QUIET
from flowcraft_sdk.switchboard import Ear, Switchboard


class AsyncListenerHub:
    """A task with a subscriber connection, shared by all handles of a client.

    Args:
        connect: makes an unconnected redis-py connection.
        inbox_prefix: of the channel of the client's inbox.
    """

    def __init__(self, connect: Callable[[], Any], inbox_prefix: str) -> None:
        self._connect = connect
        self._board = Switchboard(Inbox(inbox_prefix))
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._silent_since = 0.0
        self._closed = False

    def expect(self) -> str:
        """A token for a run about to be started, '' if the inbox is not to be told of its end. See `Inbox.expect`."""
        return "" if self._closed else self._board.inbox.expect()

    def dismiss(self, mark: str) -> None:
        """Nobody is going to wait for an end that the inbox was to be told of."""
        self._board.inbox.dismiss(mark)

    async def listen(self, channels: tuple[str, ...], seconds: float, *, mark: str | None = None) -> Ear:
        """An ear on channels; returns once Redis has confirmed them, after `seconds` at most.

        A subscription that is not confirmed in time is made good later, and tells the ear to look.
        """
        told, ready = asyncio.Event(), asyncio.Event()
        ear = Ear(channels, told, ready, mark=mark)
        if self._closed:
            return ear
        self._board.add(ear)
        try:
            if not ready.is_set():
                self._ring()
                await _set_in_time(ready, seconds)
            if ready.is_set():
                ear.settle()
        except BaseException:
            self.forget(ear)
            raise
        return ear

    async def doze(self, ear: Ear, seconds: float) -> Heard:
        """Sleep until something is said to an ear, `seconds` at most."""
        await _set_in_time(ear.told, seconds)
        return ear.take()

    def forget(self, ear: Ear) -> None:
        """Take an ear off."""
        self._board.remove(ear)
        self._changed.set()

    async def close(self) -> None:
        """End the task and its connection. Sleepers are woken and look for themselves."""
        self._closed = True
        self._board.wake_all()
        self._changed.set()
        if self._task is not None:
            self._task.cancel()  # redis-py's wait_for may swallow this on Python 3.11, hence the flag besides
            await asyncio.wait({self._task})

    def _ring(self) -> None:
        """Tell the task that something has changed; starts it if need be."""
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="flowcraft-listener")
        self._changed.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            while not self._board.busy and not self._closed:
                self._changed.clear()
                await self._changed.wait()
            begin = clock()
            try:
                await self._connect_and_serve()
            except BROKEN:
                pass
            except Exception:
                logging.getLogger("flowcraft_sdk").exception("the listener broke; it starts over")
            pause = FIRST_PAUSE if clock() - begin > QUIET else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _connect_and_serve(self) -> None:
        connection = self._connect()
        reader: asyncio.Task[None] | None = None
        try:
            await connection.connect()
            reader = asyncio.create_task(self._read(connection))
            await self._ask(connection, reader)
        finally:
            self._board.lost()
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
            self._board.take(reply)

    async def _ask(self, connection: Any, reader: "asyncio.Task[None]") -> None:
        """Subscribe and unsubscribe as ears come and go, and PING when it is quiet, until the reader breaks."""
        self._silent_since, pinged = clock(), False
        while not self._closed:
            self._changed.clear()
            new, gone = self._board.changes()
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
