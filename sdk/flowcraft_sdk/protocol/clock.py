"""The monotonic clock that waits are measured with."""

import time
from collections.abc import Callable
from functools import partial


def _real_clock() -> Callable[[], float]:
    """A monotonic clock that test clocks do not stop: they replace `time.monotonic` wherever a module holds it."""
    if hasattr(time, "clock_gettime"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return partial(time.monotonic)


clock: Callable[[], float] = _real_clock()
"""Monotonic seconds; a wait measured with it ends even while `time.monotonic` is frozen."""
