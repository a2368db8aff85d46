"""The clock of a test environment."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.bounds import check_span
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.link import StoreLink


class TestClock:
    """The clock that the scripts read: Redis time plus an offset that only tests set."""

    __test__ = False

    def __init__(
        self,
        link: StoreLink,
        partitions: Partitions,
        moved: Callable[[], None],
        idle: Callable[[], None],
        check_entered: Callable[[], None],
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._moved = moved
        self._idle = idle
        self._check_entered = check_entered

    def now(self) -> datetime:
        """Read the time as the scripts see it.

        Returns:
            The time, in UTC.

        Raises:
            ConfigurationError: The environment was not entered, or was left.
        """
        self._check_entered()
        seconds, micros = self._link.redis.time()
        offset = int(self._link.redis.get(self._partitions.home.clock) or 0)
        return datetime.fromtimestamp(seconds + micros / 1e6, UTC) + timedelta(milliseconds=offset)

    def advance(self, by: timedelta | float | str, *, keep_leases: bool = True) -> None:
        """Move the clock forward. Workers do at once what falls due.

        Args:
            by: Seconds, a timedelta, or a text such as `2d` or `1h30m`.
            keep_leases: Whether running nodes stay with their workers, as if their leases were renewed; False: all workers were
                silent for that time.

        Raises:
            ConfigurationError: `by` is no duration; or the environment was not entered, or was left.
        """
        self._check_entered()
        seconds = check_span(by, "by")
        if seconds is None:
            raise ConfigurationError("say by how much the clock is to be moved")
        for keys in self._partitions.all:
            self._link.call(scripts.advance(keys, ms=int(seconds * 1000), keep_leases=keep_leases))
        self._moved()

    def advance_to_next_timer(self) -> timedelta:
        """Wait until nothing is ready or running, and move the clock to the timer that is due first.

        A timer is the end of a `sleep`, of a retry's delay, of a wait, of a run's time limit, or of a start's delay.

        Returns:
            How far the clock was moved.

        Raises:
            LookupError: There is no timer.
            TimeoutError: A node is still running.
        """
        self._idle()
        by = self.until_next_timer()
        if by is None:
            raise LookupError(
                "no timer is set: nothing sleeps, waits with a timeout or is to be tried again; the tick of a schedule is no "
                "timer: advance the clock to client.schedules.get(ID).next_times[0]"
            )
        self.advance(by)
        return by

    def until_next_timer(self) -> timedelta | None:
        """Look how far the clock has to be moved for the timer that is due first.

        Returns:
            The time, None if no timer is set.

        Raises:
            ConfigurationError: The environment was not entered, or was left.
        """
        self._check_entered()
        heads = self._link.read_all([("ZRANGE", keys.timers, 0, 0, "WITHSCORES") for keys in self._partitions.all])
        due = min((float(head[1]) for head in heads if head), default=None)
        if due is None:
            return None
        return timedelta(milliseconds=max(0, math.ceil(due - self.now().timestamp() * 1000)) + 1)
