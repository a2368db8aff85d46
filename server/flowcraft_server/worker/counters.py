"""What went wrong in a worker and was mended: shown by `flowcraft doctor` and the health check."""

from dataclasses import asdict, dataclass


@dataclass
class Counters:
    """Counts of one worker process since its start.

    Attributes:
        threads_replaced: worker threads that died or were abandoned, and others took their place.
        threads_abandoned: threads that run now a function whose node is over.
        loops_replaced: event loops that were closed, died, or stood still for longer than a lease.
        loop_blocked: how often a coroutine held up the event loop.
        coroutines_abandoned: coroutines that run now although their node is over.
        attempts_given_up: attempts that were held without code behind them.
    """

    threads_replaced: int = 0
    threads_abandoned: int = 0
    loops_replaced: int = 0
    loop_blocked: int = 0
    coroutines_abandoned: int = 0
    attempts_given_up: int = 0

    def fields(self) -> dict[str, int]:
        """As fields of the worker's record."""
        return asdict(self)
