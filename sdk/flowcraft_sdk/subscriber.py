"""One connection that hears of all runs a client waits for. Sleepers subscribe, *then* read, then sleep until told."""

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from flowcraft_sdk.inbox import Inbox
from flowcraft_sdk.steps import Heard, clock
from flowcraft_sdk.subscriber_line import BROKEN, SubscriberLine
from flowcraft_sdk.switchboard import Ear, Switchboard

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0

MOST_LEFT = 32
"""Channels of ended runs that may stay subscribed. Nothing more is said there, and to be unsubscribed along with the next
subscription costs less than a message of its own."""


class _Mark:
    """A flag of an ear: setting it wakes the ear's thread.

    Attributes:
        bell: what the thread sleeps on; rung for other reasons, too.
        up: whether the flag is set.
    """

    def __init__(self, bell: threading.Event) -> None:
        self.bell = bell
        self.up = False

    def set(self) -> None:
        self.up = True
        self.bell.set()

    def clear(self) -> None:
        self.up = False


class ListenerHub:
    """A subscriber connection shared by all handles of a client. Thread-safe and fork-safe.

    It has no thread of its own: of those that wait, one reads for all. When that one has what it waits for, it wakes
    another one to read on. So a client that waits for one run is woken once, by the word that the run has ended.

    Args:
        connect: makes an unconnected redis-py connection.
        inbox_prefix: of the channel of the client's inbox.
    """

    def __init__(self, connect: Callable[[], Any], inbox_prefix: str) -> None:
        self._connect = connect
        self._inbox_prefix = inbox_prefix
        self._reset()
        _hubs.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards all of this, and the line but for waiting at it
        self._board = Switchboard(Inbox(self._inbox_prefix))
        self._line: SubscriberLine | None = None
        self._reader: threading.Event | None = None
        self._asleep: dict[threading.Event, None] = {}
        self._pause = 0.0
        self._closed = False

    def forked(self) -> None:
        """Start over in a forked child: the connection is the parent's, and so are its threads."""
        if self._pid != os.getpid():
            self._reset()

    def expect(self) -> str:
        """A token for a run about to be started, '' if the inbox is not to be told of its end. See `Inbox.expect`."""
        with self._lock:
            hears = self._line is not None and not self._closed and not self._line.is_stale
            return self._board.inbox.expect() if hears else ""

    def dismiss(self, mark: str) -> None:
        """Nobody is going to wait for an end that the inbox was to be told of."""
        with self._lock:
            self._board.inbox.dismiss(mark)

    def listen(self, channels: tuple[str, ...], seconds: float, *, mark: str | None = None) -> Ear:
        """An ear on channels; returns once Redis has confirmed them, after `seconds` at most.

        A subscription that is not confirmed in time is made good later, and tells the ear to look.
        """
        bell = threading.Event()
        ready = _Mark(bell)
        ear = Ear(channels, _Mark(bell), ready, mark=mark)
        with self._lock:
            if self._closed:
                return ear
            self._board.add(ear)
            if self._line is not None and self._reader is None and self._line.is_stale:
                self._hang_up(self._line)
            self._ask()
        try:
            if self._sleep(ready, seconds):
                with self._lock:
                    ear.settle()
        except BaseException:
            self.forget(ear)
            raise
        return ear

    def doze(self, ear: Ear, seconds: float) -> Heard:
        """Sleep until something is said to an ear, `seconds` at most."""
        told = ear.told
        assert isinstance(told, _Mark)
        self._sleep(told, seconds)
        with self._lock:
            return ear.take()

    def forget(self, ear: Ear) -> None:
        """Take an ear off."""
        with self._lock:
            self._board.remove(ear)
            if not ear.has_heard_the_end or self._board.left > MOST_LEFT:
                self._ask()

    def close(self) -> None:
        """Close the connection. Sleepers are woken and look for themselves."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            self._board.wake_all()
            if self._reader is not None:
                self._reader.set()
            if self._line is not None and self._reader is not None:
                self._line.cut()
            elif self._line is not None:
                self._hang_up(self._line)

    def _ask(self) -> None:
        """Tell Redis what has changed on the board; who reads the line finds out if it is broken. With the lock held."""
        if self._line is None:
            return
        try:
            self._line.ask(*self._board.changes())
        except BROKEN:
            pass

    def _sleep(self, mark: _Mark, seconds: float) -> bool:
        """Sleep until a mark is up, `seconds` at most, and read for all meanwhile if nobody does. Whether it is up."""
        until = clock() + seconds
        try:
            while True:
                with self._lock:
                    self._asleep.pop(mark.bell, None)
                    left = until - clock()
                    if mark.up or self._closed or left <= 0:
                        return mark.up
                    mark.bell.clear()
                    reads = self._reader is None
                    if reads:
                        self._reader = mark.bell
                    else:
                        self._asleep[mark.bell] = None
                if reads:
                    self._read(mark, until)
                else:
                    mark.bell.wait(left)
        finally:
            with self._lock:
                self._asleep.pop(mark.bell, None)
                if self._reader is mark.bell:  # interrupted before it could begin
                    self._reader = None
                if self._reader is None and self._asleep:
                    next(iter(self._asleep)).set()

    def _read(self, mark: _Mark, until: float) -> None:
        """Read for all until a mark is up, the time is over, or the line breaks."""
        try:
            self._connect_if_needed(mark, until)
            while (line := self._line) is not None and not (mark.up or self._closed) and (left := until - clock()) > 0:
                readable = line.wait(left)
                with self._lock:
                    for reply in line.replies() if readable else ():
                        self._board.take(reply)
                    line.probe()
                self._pause = 0.0
        except BaseException as error:  # an interrupt may have come between reading and passing on
            with self._lock:
                if self._line is not None:
                    self._hang_up(self._line)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, BROKEN) and not self._closed:
                logging.getLogger("flowcraft_sdk").exception("the listener broke; it starts over")
        finally:
            with self._lock:
                self._reader = None
                if self._closed and self._line is not None:
                    self._hang_up(self._line)

    def _connect_if_needed(self, mark: _Mark, until: float) -> None:
        if self._line is not None:
            return
        if self._pause and (mark.bell.wait(min(self._pause, until - clock())) or clock() >= until):
            return  # closed, or there is no time for it
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        line = SubscriberLine(self._connect())
        with self._lock:
            self._line = line
            self._ask()

    def _hang_up(self, line: SubscriberLine) -> None:
        """Close a line that nobody waits at; everything is asked for again on the next one. With the lock held."""
        self._line = None
        self._board.lost()
        line.close()


_hubs: "weakref.WeakSet[ListenerHub]" = weakref.WeakSet()


def _after_fork() -> None:
    for hub in list(_hubs):
        hub.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
