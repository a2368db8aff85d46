"""Timers that are due, and nodes whose leases have expired."""

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.settings import WorkerSettings

SWEPT_AT_ONCE = 100
LONGEST_SWEEP_PAUSE = 0.25
"""Seconds by which a timer that another process has just set may be late."""


class Sweeper:
    """Takes over what dead workers left and fires timers. Every process has one; none is the leader."""

    def __init__(self, link: StoreLink, keys: Keys, settings: WorkerSettings) -> None:
        self._link = link
        self._keys = keys
        self._settings = settings
        self._soon = float("inf")

    def expect(self, seconds: float) -> None:
        """Something falls due that early: do not sleep past it."""
        self._soon = min(self._soon, clock() + seconds)

    def step(self) -> float:
        """Sweep once; returns the pause in seconds."""
        settings = self._settings
        self._soon = float("inf")
        call = scripts.sweep(
            self._keys,
            limit=SWEPT_AT_ONCE,
            max_crashes=settings.max_crashes,
            grace_ms=int(settings.cancel_grace * 1000),
            queues=",".join(settings.queues),
        )
        done, wait_ms, taken_over = (int(part) for part in self._link.call(call))
        if taken_over:
            logger.warning("took over {} nodes whose worker had died or stalled", taken_over)
        if done >= SWEPT_AT_ONCE:
            return 0.0
        pause = LONGEST_SWEEP_PAUSE if wait_ms < 0 else min(LONGEST_SWEEP_PAUSE, wait_ms / 1000 + 0.001)
        return max(0.0, min(pause, self._soon - clock()))
