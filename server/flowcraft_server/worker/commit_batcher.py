"""Group commit: what is ready to be sent goes out as one pipeline, as much as gathered while the last one was under way."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from loguru import logger

from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.link import StoreLink, StoreUnavailable
from flowcraft_server.worker.liveness import thread_runs

MOST_AT_ONCE = 64
MOST_OF_A_THREAD = 32
PIPELINES = 8
LONGEST_PAUSE = 2.0

Make = Callable[[], ScriptCall | None]
OnReply = Callable[[Any], None]
Work = tuple[Make | ScriptCall, OnReply, Attempt | None]
Sent = tuple[ScriptCall, OnReply, Attempt | None]


def _ignore(_reply: Any) -> None:
    """What comes of lines that a node has logged is nothing that its outcome depends on."""


class GaveUp(Exception):
    """The process is stopping and Redis still does not answer; leases will expire and others take over."""


def send_until_answered(link: StoreLink, calls: Sequence[ScriptCall], stopping: threading.Event) -> list[Any]:
    """Send calls and see them through any condition that passes: Redis away, full, read-only, loading.

    Every script is idempotent, but what was answered is not sent again: its reply may have brought a node.

    Raises:
        GaveUp: the process stops first.
    """
    replies: list[Any] = [None] * len(calls)
    left = list(range(len(calls)))
    pause, logged = 0.05, ""
    while True:
        try:
            answers = link.send(calls if len(left) == len(calls) else [calls[index] for index in left])
            if len(left) == len(calls) and not [each for each in answers if isinstance(each, Exception)]:  # as a rule
                return answers
            for index, reply in zip(left, answers, strict=True):
                replies[index] = reply
            left = [index for index in left if isinstance(replies[index], Exception) and condition_of(replies[index])]
            if not left:
                return replies
            condition = condition_of(replies[left[0]])
            why = f"Redis refuses {calls[left[0]].script.name}: {condition.advice if condition else ''}"
        except StoreUnavailable as error:
            why = str(error)
        if why != logged:
            logger.warning("{}; holding {} finished steps and trying again", why, len(left))
            logged = why
        if stopping.wait(pause):
            raise GaveUp(why)
        pause = min(pause * 2, LONGEST_PAUSE)


class CommitBatcher:
    """What waits to be sent, on two lanes.

    On the first lane threads that have finished nodes leave the calls, and whichever of them has nothing else to do
    sends what is there; `PIPELINES` may be under way, so that Redis works on some while others are put together.
    On the second lane a thread of its own sends, in order: for the event loop, which must not wait, and for progress.
    A piece of work is (make, on_reply, attempt): `make` is a call, or gives one, or None if there is nothing to send any more;
    `on_reply` gets the reply, an exception if the script was refused; `attempt` is the one whose outcome it is, if it is one.

    Args:
        grouped: whether calls are put together by partition: there are several.

    Attributes:
        finished: the first lane: what waits for a thread to `flush` it.
    """

    def __init__(self, link: StoreLink, stopping: threading.Event, *, grouped: bool = False) -> None:
        self._link = link
        self._grouped = grouped
        self._stopping = stopping
        self.finished: deque[Work] = deque()
        self._ordered: deque[Work] = deque()
        self._under_way = threading.Semaphore(PIPELINES)
        self._wanted = threading.Event()
        self._closing = False
        self._sending: dict[int, list[Sent]] = {}
        self._thread = threading.Thread(target=self._run, name="commit_batcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def restart_if_dead(self) -> bool:
        """Start another thread if this one has died; returns whether it had."""
        if self._closing or thread_runs(self._thread):
            return False
        self._sending.pop(self._thread.ident or 0, None)
        self._thread = threading.Thread(target=self._run, name="commit_batcher", daemon=True)
        self._thread.start()
        self._wanted.set()
        return True

    def attempts(self) -> list[Attempt]:
        """The attempts whose outcomes wait to be sent or are being sent."""
        alive = {thread.ident for thread in threading.enumerate() if thread_runs(thread)}
        sending = [work for ident, each in list(self._sending.items()) if ident in alive for work in each]
        return [work[2] for work in (*list(self.finished), *list(self._ordered), *sending) if work[2] is not None]

    def put(self, make: Make | ScriptCall, on_reply: OnReply, attempt: Attempt | None = None) -> None:
        """Have the thread send a piece of work, after those put before. Never blocks."""
        self._ordered.append((make, on_reply, attempt))
        self._wanted.set()

    def add(self, call: ScriptCall, on_reply: OnReply, attempt: Attempt | None = None) -> None:
        """Leave a call that the caller, or a thread that is quicker, is going to `flush`."""
        self.finished.append((call, on_reply, attempt))

    def wake(self) -> None:
        """Have the thread send what threads have left."""
        self._wanted.set()

    def flush(self) -> None:
        """Send what threads have left, from the caller's thread; waits while `PIPELINES` others send.

        Raises:
            GaveUp: the process stops and Redis does not answer.
        """
        with self._under_way:
            made = self._take(self.finished, MOST_OF_A_THREAD)
            replies = self._send(made, self.finished)
        self._handle_replies(made, replies)

    def close(self, timeout: float) -> None:
        """Send what is queued, then end the thread."""
        self._closing = True
        self._wanted.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        failing = False
        while not (self._closing and not self._ordered):
            self._wanted.wait()
            self._wanted.clear()
            try:
                while self.finished:
                    self.flush()
                while self._ordered:
                    made = self._take(self._ordered, MOST_AT_ONCE)
                    self._handle_replies(made, self._send(made, self._ordered))
                failing = False
            except GaveUp as error:
                logger.warning("stopping with finished steps unsent ({}): their leases expire", error)
                return
            except BaseException:  # without this thread no outcome of a coroutine is recorded
                if not failing:  # once: it may go on like this
                    logger.exception("the commit batcher met an error of its own")
                failing = True
                time.sleep(0.05)
                self._wanted.set()

    def _take(self, queue: deque[Work], most: int) -> list[Sent]:
        made: list[Sent] = []
        lines: list[Sent] = []
        while len(made) < most:
            try:
                make, on_reply, attempt = queue.popleft()
            except IndexError:
                break
            try:
                call = make if isinstance(make, ScriptCall) else make()
            except Exception:
                logger.exception("an outcome could not be put into a call")
                continue
            if call is not None:
                made.append((call, on_reply, attempt))
                if attempt is not None and attempt.lines is not None and (kept := attempt.lines.take(last=True)):
                    lines.append((kept, _ignore, None))
        if lines:  # what nodes have logged goes ahead of their outcomes, behind which it would be refused
            made = lines + made
        if self._grouped:  # calls of one partition that follow each other are joined; those of a run keep their order
            made.sort(key=lambda work: work[0].keys)
        return made

    def _send(self, made: list[Sent], queue: deque[Work]) -> list[Any]:
        """The replies. What an exception in this thread keeps from being sent goes back to the queue: it is idempotent."""
        if not made:
            return []
        ident = threading.get_ident()
        self._sending[ident] = made
        try:
            return send_until_answered(self._link, [work[0] for work in made], self._stopping)
        except GaveUp:
            raise
        except BaseException:
            queue.extendleft(reversed(made))
            raise
        finally:
            del self._sending[ident]

    @staticmethod
    def _handle_replies(made: list[Sent], replies: list[Any]) -> None:
        for (_, on_reply, _), reply in zip(made, replies, strict=True):
            try:
                on_reply(reply)
            except BaseException:  # the other replies must still be handled
                logger.exception("a reply could not be worked off")
