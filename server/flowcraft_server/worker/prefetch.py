"""Nodes that this process has claimed and no thread has begun: a small prefetch, so that quick nodes share round trips.

How many are claimed ahead follows from what nodes take: with quick ones a prefetch of `MOST_AHEAD`, with nodes of a
millisecond and more none, for a node must never wait behind a slow one that happens to be claimed beside it.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.scripts import ClaimMode
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.worker.grouped_attempts import GroupedAttempts

NONE, QUEUE, SUCCESSOR = ClaimMode.NONE, ClaimMode.QUEUE, ClaimMode.SUCCESSOR
MOST_AHEAD = 128
MANY = 16
"""Nodes claimed ahead from which on it matters that those of one partition come together."""

QUICK = 0.001
"""Seconds from which on nodes are claimed one at a time."""

WORTH = 0.002
"""Seconds that the quick nodes that are claimed ahead take together: about what a round trip takes under load."""

STUCK = 0.005
"""Seconds after which a claimed node that no thread takes is handed back."""

LONGEST_SAMPLE = 0.02
WEIGHT = 1 / 16


class PrefetchBuffer:
    """The prefetch, and how many threads could take from it. Thread-safe.

    Args:
        partition_of: the partition in which a run lies, where there are several; those of one are taken together then.

    Attributes:
        unattended: set when a thread turns to something that may take long while others' work waits for it. Not whenever
            there is something in prefetch: a notified thread wakes up, and an idle server's next step would wait for that.
    """

    def __init__(self, partition_of: Callable[[str], Keys] | None = None) -> None:
        self._waiting: deque[Attempt] | GroupedAttempts = (
            deque() if partition_of is None else GroupedAttempts(partition_of)
        )
        # `with` it, where no thread is to be notified: that of a condition is a call in Python.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._active = 0
        self._running = 0
        self._free = 0
        self._asked = 0
        self._closed = False
        self._pace = QUICK
        self._ahead = 1
        self._slow: dict[str, bool] = {}
        self._last_taken = clock()
        self.unattended = threading.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def holds_many(self) -> bool:
        """Whether nodes are so quick that many are claimed ahead."""
        return self._ahead >= MANY

    def enter(self) -> None:
        """A thread begins to work from the prefetch."""
        with self._lock:
            self._active += 1

    def leave(self) -> None:
        """A thread is gone."""
        with self._lock:
            self._active -= 1
        self.leave_unattended()

    def lose_thread(self, *, counted: bool, running: bool) -> None:
        """A thread was lost: to a function that does not return, or because it died.

        Args:
            counted: it had entered.
            running: it was at a node.
        """
        with self._lock:
            self._active -= counted
            self._running -= running
        self.leave_unattended()

    def attempts(self) -> list[Attempt]:
        """What it holds."""
        return list(self._waiting)

    def wanted(self) -> int:
        """How many more claims may be asked for: the prefetch's size, or one for each thread without a node."""
        idle = self._active - self._running
        return max(self._ahead, idle) - len(self._waiting) - self._asked

    def claim_mode(self, direct_handoff: bool, *, elsewhere: bool = False) -> ClaimMode:
        """How a thread that is done with its node asks for another; `put` ends what is asked for.

        Args:
            direct_handoff: another node follows at once. With a full prefetch of quick nodes it is taken all the same, as it
                comes for the one that went.
            elsewhere: other partitions have their turn: their nodes are claimed along with what is sent.
        """
        with self._lock:  # `wanted` and `ask` in one, as it is asked for each node
            idle = self._active - self._running + 1
            ahead = self._ahead
            if (ahead if ahead > idle else idle) > len(self._waiting) + self._asked:
                if elsewhere and not direct_handoff:
                    return NONE
                mode = SUCCESSOR if elsewhere else QUEUE
            elif direct_handoff and self._pace < QUICK:
                mode = SUCCESSOR
            else:
                return NONE
            if self._closed:
                return NONE
            self._asked += 1
            return mode

    def ask(self, count: int) -> bool:
        """Note that claims are on their way; False if none are to be made, because the prefetch is closed."""
        with self._lock:
            if not self._closed:
                self._asked += count
            return not self._closed

    def put(self, attempts: list[Attempt], asked: int) -> bool:
        """Stock what came of `asked` claims, and wake threads for what may be slow.

        Returns:
            False if the prefetch is closed, and nothing was noted: the claims are still under way until they are handed back
            and nothing is put in their place.
        """
        with self._lock:
            if attempts and self._closed:
                return False
            self._asked -= asked
            if self._closed and not self._asked:
                self._changed.notify_all()
            if not attempts:
                # A thread that stands by for this claim may have been woken for something newer than it.
                if asked and self._free:
                    self._changed.notify()
                return True
            if not self._waiting:
                self._last_taken = clock()
            self._waiting.extend(attempts)
            if self._free and self._pace >= QUICK:
                self._changed.notify(len(self._waiting))
            all_busy = self._active <= self._running
        if all_busy:  # another thread than those that work from the prefetch has brought it
            self.leave_unattended()
        return True

    def take(self, now: float) -> Attempt | None:
        """The next node to run, or None.

        Args:
            now: what the clock shows.
        """
        try:
            attempt = self._waiting.popleft()
        except IndexError:
            return None
        self._last_taken = now
        return attempt

    def wait(self, seconds: float) -> None:
        """Have a thread without work wait for some, `seconds` at most."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                self._changed.wait(seconds)
                self._free -= 1

    def share(self) -> None:
        """The caller is about to wait for Redis: another thread may go on with what is here."""
        self.leave_unattended()
        if self._waiting and self._free:
            with self._lock:
                self._changed.notify()

    def leave_unattended(self, finished: int = 0) -> None:
        """The caller turns to something else, while the prefetch's nodes, or finished ones that are not sent, may wait."""
        if (self._waiting or finished) and not self.unattended.is_set():
            self.unattended.set()

    def is_quick(self, uses: str) -> bool:
        """Whether a node of this kind is known to be quick."""
        return not self._slow.get(uses, True)

    def beginning(self, uses: str) -> None:
        """A thread begins a node; if it may be slow, other threads are woken for what else is here."""
        slow = self._slow.get(uses)
        with self._lock:
            self._running += 1
            if slow:
                self._pace_is(max(self._pace, QUICK))
            if slow is not False and self._waiting and self._free:
                self._changed.notify(len(self._waiting))

    def took(self, uses: str, seconds: float) -> None:
        """A thread is done with a node: learn how long its kind takes."""
        with self._lock:
            self._running -= 1
            self._slow[uses] = seconds >= QUICK
            if seconds > LONGEST_SAMPLE:
                seconds = LONGEST_SAMPLE
            self._pace_is(self._pace + (seconds - self._pace) * WEIGHT)

    def _pace_is(self, pace: float) -> None:
        self._pace = pace
        self._ahead = 1 if pace >= QUICK else MOST_AHEAD if pace * MOST_AHEAD <= WORTH else int(WORTH / pace)

    def stuck(self) -> list[Attempt]:
        """Takes out what no thread has had time for, to be handed back; wakes a free thread for it if there is one."""
        with self._lock:
            if not self._waiting or clock() - self._last_taken < STUCK:
                return []
            if self._free:
                self._changed.notify(len(self._waiting))
                return []
            return self._empty()

    def close(self) -> list[Attempt]:
        """Take nothing more; takes out everything, to be handed back."""
        with self._lock:
            self._closed = True
            return self._empty()

    def wait_settled(self, seconds: float) -> bool:
        """Wait until no claim is under way to a closed prefetch, `seconds` at most; False when the time is up first."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._asked, seconds)

    def _empty(self) -> list[Attempt]:
        prefetch = []
        with suppress(IndexError):  # one by one, as `take` needs no lock
            while True:
                prefetch.append(self._waiting.popleft())
        self._last_taken = clock()
        return prefetch
