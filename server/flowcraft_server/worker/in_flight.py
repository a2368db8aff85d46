"""The attempts that this process holds: their leases are renewed, stops are passed on to them, a shutdown hands them back."""

import threading
from collections import OrderedDict

from flowcraft_server.engine.attempt import Attempt, AttemptState

RUNNING, FINISHED = AttemptState.RUNNING, AttemptState.FINISHED
REMEMBERED_STOPS = 1_000


class InFlightAttempts:
    """Attempts under way in this process. Thread-safe."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, str], Attempt] = {}
        self._stops: OrderedDict[str, tuple[int | None, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)

    def add(self, attempt: Attempt) -> None:
        """Hold an attempt. A stop notice that overtook the claim's reply is given to it at once."""
        self._attempts[attempt.key] = attempt  # before the look at the notices, as `stop_run` leaves its own first
        if not self._stops:
            return
        created, reason = self._stops.get(attempt.claim.run_id, (None, None))
        if reason is not None and created in (None, attempt.claim.run_created) and not attempt.outlives_stop:
            attempt.request_stop(reason)

    def remove(self, attempt: Attempt) -> None:
        """Let go of an attempt whose outcome has been recorded, or is not recorded by this process any more."""
        with self._lock:
            if self._attempts.get(attempt.key) is attempt:
                del self._attempts[attempt.key]
            if not self._attempts:
                self._empty.notify_all()

    def try_finish(self, attempt: Attempt) -> bool:
        """Whether the caller is the first to hand in the attempt's outcome; then it has finished."""
        with self._lock:
            if attempt.state is not RUNNING:
                return False
            attempt.state = FINISHED
            return True

    def try_lose(self, attempt: Attempt) -> bool:
        """Let go of an attempt whose lease is another worker's; False if its outcome was handed in before."""
        with self._lock:
            if attempt.state is not RUNNING:
                return False
            attempt.state = AttemptState.LOST
        self.remove(attempt)
        return True

    def reopen(self, attempt: Attempt) -> None:
        """Hold a finished attempt again: its outcome could not be recorded, and another one takes its place."""
        with self._lock:
            attempt.state = RUNNING
        self.add(attempt)

    def stop_run(self, run_id: str, reason: str, created: int | None = None) -> int:
        """Ask every node of a run to give up, but those that outlive its stop; returns how many there were.

        Args:
            created: when the run was created, in ms: another one may have its id by now, which is left alone.
        """
        with self._lock:
            self._stops[run_id] = created, reason
            while len(self._stops) > REMEMBERED_STOPS:
                self._stops.popitem(last=False)
            stopped = [
                attempt
                for key, attempt in list(self._attempts.items())
                if key[0] == run_id and created in (None, attempt.claim.run_created) and not attempt.outlives_stop
            ]
        for attempt in stopped:
            attempt.request_stop(reason)
        return len(stopped)

    def get(self, run_id: str, instance_id: str) -> Attempt | None:
        """The attempt at an instance, if this process holds it."""
        return self._attempts.get((run_id, instance_id))

    def all(self) -> list[Attempt]:
        """Everything held now."""
        return list(self._attempts.values())

    def __len__(self) -> int:
        return len(self._attempts)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing is held; False when the time is up first."""
        with self._lock:
            return self._empty.wait_for(lambda: not self._attempts, timeout)
