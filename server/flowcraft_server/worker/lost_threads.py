"""Worker threads that are lost to their function: it goes on although its node is over, or it ended the thread.

A thread cannot be stopped from outside. Another one takes its place at once, so that ready work never waits behind code whose
outcome is decided; when too many are lost, the process is replaced by a fresh one.
"""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.records.counts import counted
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.worker.code_location import describe_stack
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.liveness import thread_runs

ABANDONED_AFTER = 0.5
"""Seconds that a function gets to return after its node is over, before another thread takes the place of its own."""

REPLACED = 75
"""Exit code of a process that ended itself to be replaced: EX_TEMPFAIL."""


@dataclass(eq=False)
class Turn:
    """One stay of a thread in the work loop.

    Attributes:
        until: monotonic time at which its slice is over.
        ready: how many nodes were left in the queues when it last asked for one, None before that.
        attempt: what it runs, None between two nodes.
        counted: it is one of the threads that work from the prefetch buffer.
        abandoned: another thread has taken its place.
    """

    until: float
    ready: int | None = None
    attempt: Attempt | None = None
    counted: bool = True
    abandoned: bool = False
    thread: threading.Thread = field(default_factory=threading.current_thread)


class RunningFunctions:
    """What the worker threads run now. Thread-safe."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._lock = threading.Lock()

    def enter(self, turn: Turn) -> None:
        """A thread begins to run nodes."""
        self._turns.append(turn)

    def leave(self, turn: Turn) -> None:
        """It runs none any more."""
        with self._lock:
            if turn in self._turns:
                self._turns.remove(turn)

    def finish(self, turn: Turn) -> bool:
        """A thread is done with its node; False if it was abandoned meanwhile, and what it took part in is accounted for."""
        with self._lock:
            turn.attempt = None
            return not turn.abandoned

    def abandon(self, turn: Turn, attempt: Attempt | None) -> bool:
        """Take a thread for lost while it runs this attempt; False if it has finished it just now."""
        with self._lock:
            if turn.abandoned or turn.attempt is not attempt:
                return False
            turn.abandoned = True
            return True

    def turns(self) -> list[Turn]:
        """All of them."""
        return list(self._turns)

    def attempts(self) -> list[Attempt]:
        """What threads run that are alive."""
        return [turn.attempt for turn in self.turns() if turn.attempt is not None and thread_runs(turn.thread)]


class ThreadWatch:
    """Replaces threads that died or that run code of a node that is over.

    Args:
        lost: called for a thread that was lost, with whether it was counted in the prefetch buffer and whether it ran a node.
        replace: starts another thread in the place of one.
        give_up: hands an attempt back.
        limit: how many threads may be lost to their functions.
        exhausted: called once when it is more.
    """

    def __init__(
        self,
        running: RunningFunctions,
        counters: Counters,
        lost: Callable[[Turn, bool], None],
        replace: Callable[[threading.Thread], None],
        give_up: Callable[[Attempt, str], None],
        limit: int,
        exhausted: Callable[[str], None],
    ) -> None:
        self._running = running
        self._counters = counters
        self._lost = lost
        self._replace = replace
        self._give_up = give_up
        self._limit = limit
        self._exhausted = exhausted
        self._over_since: dict[int, float] = {}
        self._reported = False

    def look(self, also_lost: int = 0) -> None:
        """Look once.

        Args:
            also_lost: event loops that are lost in the same way.
        """
        now, seen = clock(), {}
        turns = self._running.turns()
        for turn in turns:
            attempt = turn.attempt
            if not thread_runs(turn.thread):
                self._replace_dead(turn, attempt)
            elif attempt is not None and attempt.has_ended and not turn.abandoned:
                seen[id(turn)] = self._over_since.get(id(turn), now)
                if now - seen[id(turn)] >= ABANDONED_AFTER and self._running.abandon(turn, attempt):
                    self._abandon(turn, attempt)
        self._over_since = seen
        abandoned = [turn for turn in turns if turn.abandoned and turn.attempt is not None and thread_runs(turn.thread)]
        self._counters.threads_abandoned = len(abandoned)
        if len(abandoned) + also_lost > self._limit and not self._reported:
            self._reported = True
            self._exhausted(
                f"{counted(len(abandoned), 'thread')} and {counted(also_lost, 'event loop')} are lost to code whose "
                f"nodes are over, more than executor.abandonedThreads ({self._limit})"
            )

    def _abandon(self, turn: Turn, attempt: Attempt) -> None:
        self._lost(turn, True)
        self._replace(turn.thread)
        self._counters.threads_replaced += 1
        stack = describe_stack(sys._current_frames().get(turn.thread.ident or 0))
        logger.bind(run=attempt.claim.run_id, node=attempt.claim.instance_id).warning(
            "the node is over ({}) and its function is still running, in a thread that cannot be stopped; another thread "
            "takes its place (executor.workerType: process ends such functions). It is at:\n{}",
            attempt.stop_reason or "its outcome is another's", stack,
        )  # fmt: skip

    def _replace_dead(self, turn: Turn, attempt: Attempt | None) -> None:
        if not turn.abandoned and self._running.abandon(turn, attempt):
            self._lost(turn, attempt is not None)
            self._replace(turn.thread)
            self._counters.threads_replaced += 1
            logger.error("a worker thread died; another one takes its place")
            if attempt is not None and not attempt.has_ended:
                self._give_up(attempt, "the thread that ran it died")
        self._running.leave(turn)


def end_this_process(_worker_id: str) -> None:
    """End without waiting for any thread. What has started the process gives up what it held, and starts it again."""
    os._exit(REPLACED)
