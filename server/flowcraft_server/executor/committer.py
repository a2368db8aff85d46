"""Sends what is ready to be committed together: outcomes of coroutines, time-outs, progress. One thread, one pipeline."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk.protocol.scripts import ScriptCall
from flowcraft_server.store.link import StoreLink, StoreUnavailable

MOST_AT_ONCE = 64
LONGEST_PAUSE = 2.0
PASSING_TROUBLE = (
    "OOM",
    "READONLY",
    "LOADING",
    "MISCONF",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
)


class GaveUp(Exception):
    """The process is stopping and Redis still does not answer; leases will expire and others take over."""


def is_passing(error: BaseException) -> bool:
    """Whether Redis refused for a reason that passes: full, read-only, loading. The work is kept and sent again."""
    return isinstance(error, redis.exceptions.ResponseError) and str(error).startswith(PASSING_TROUBLE)


def send_until_heard(link: StoreLink, calls: Sequence[ScriptCall], stopping: threading.Event) -> list[Any]:
    """Send calls and see them through any trouble that passes. Every script bears being sent twice.

    Raises:
        GaveUp: the process stops first.
    """
    pause, said = 0.05, False
    while True:
        trouble: BaseException
        try:
            replies = link.send(calls)
            passing = next((r for r in replies if isinstance(r, BaseException) and is_passing(r)), None)
            if passing is None:
                return replies
            trouble = passing
        except StoreUnavailable as error:
            trouble = error
        except redis.exceptions.ResponseError as error:
            if not is_passing(error):
                return [error] * len(calls)
            trouble = error
        if not said:
            logger.warning("{}; holding {} finished steps and trying again", trouble, len(calls))
            said = True
        if stopping.wait(pause):
            raise GaveUp(str(trouble))
        pause = min(pause * 2, LONGEST_PAUSE)


class Committer:
    """A thread that turns queued work into script calls and hands each reply back.

    A piece of work is (make, heard): `make()` gives the call, or None if there is nothing to send any more;
    `heard(reply)` gets the reply, an exception if the script was refused.
    """

    def __init__(self, link: StoreLink, stopping: threading.Event) -> None:
        self._link = link
        self._stopping = stopping
        self._queue: SimpleQueue[tuple[Callable[[], ScriptCall | None], Callable[[Any], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, make: Callable[[], ScriptCall | None], heard: Callable[[Any], None]) -> None:
        """Queue a piece of work. Never blocks."""
        self._queue.put((make, heard))

    def close(self, timeout: float) -> None:
        """Send what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < MOST_AT_ONCE and batch[-1] is not None:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            try:
                self._commit([work for work in batch if work is not None])
            except GaveUp as error:
                logger.warning("stopping with {} finished steps unsent ({}): their leases expire", len(batch), error)
                return
            except Exception:
                logger.exception("the committer met an error of its own")
                time.sleep(0.05)
            if batch[-1] is None:
                return

    def _commit(self, batch: list[tuple[Callable[[], ScriptCall | None], Callable[[Any], None]]]) -> None:
        made = [(call, heard) for make, heard in batch if (call := make()) is not None]
        if not made:
            return
        replies = send_until_heard(self._link, [call for call, _ in made], self._stopping)
        for (_, heard), reply in zip(made, replies, strict=True):
            heard(reply)
