"""Lease renewal, and the end of what takes too long."""

from collections.abc import Callable
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.liveness import Liveness
from flowcraft_server.worker.settings import WorkerSettings

RENEWED_AT_ONCE = 200
DEADLINE_TICK = 0.05


class LeaseRenewer:
    """Renews the leases of what really runs, in a thread of its own, so that a busy handler is not taken for dead."""

    def __init__(
        self,
        link: StoreLink,
        control: AttemptControl,
        keys: Keys,
        settings: WorkerSettings,
        liveness: Liveness,
        counters: Counters,
        announce: Callable[[], object],
    ) -> None:
        self._link = link
        self._control = control
        self._keys = keys
        self._settings = settings
        self._liveness = liveness
        self._counters = counters
        self._announce = announce
        self._counted: dict[Any, Any] = {}
        self._next_renewal = 0.0

    def step(self) -> float:
        """Fail what is past its time-out, renew what is due; returns the pause in seconds."""
        now = clock()
        watched = False
        for attempt in self._control.held.all():
            if attempt.deadline is None or attempt.has_ended:
                continue
            watched = True
            if now >= attempt.deadline:
                self._control.time_out(attempt)
        if now >= self._next_renewal:
            self._renew()
            self._next_renewal = now + self._settings.heartbeat
        pause = max(0.0, self._next_renewal - clock())
        return min(pause, DEADLINE_TICK) if watched else min(pause, 0.5)

    def _renew(self) -> None:
        for attempt in self._liveness.lost():
            self._counters.attempts_given_up += 1
            self._control.held.remove(attempt)
            self._control.give_up(attempt, "no code runs for it any more")
        held = [(a.claim.run_id, a.claim.instance_id, a.claim.fencing_token) for a in self._control.held.all()]
        for first in range(0, max(1, len(held)), RENEWED_AT_ONCE):
            part = held[first : first + RENEWED_AT_ONCE]
            call = scripts.renew(
                self._keys, worker=self._settings.worker_id, lease_ms=self._settings.lease_ms, held=part
            )
            stops = [item.decode() for item in self._link.call(call)]
            for run_id, instance_id, what in zip(stops[::3], stops[1::3], stops[2::3], strict=True):
                self._stop(run_id, instance_id, what)
        counted: dict[Any, Any] = dict(self._counters.fields())
        worker = self._keys.worker(self._settings.worker_id)
        if not self._link.call_once(lambda: self._link.redis.hexists(worker, "pid")):  # Redis was emptied
            self._announce()
            self._counted = {}
        if counted != self._counted:
            self._link.call_once(lambda: self._link.redis.hset(worker, mapping=counted))
            self._counted = counted

    def _stop(self, run_id: str, instance_id: str, what: str) -> None:
        attempt = self._control.held.get(run_id, instance_id)
        if attempt is None or attempt.has_ended:
            return
        if what == "lost":
            logger.warning("run {} node {}: the lease is lost, another worker may run it", run_id, instance_id)
            self._control.lose_lease(attempt, "lost")
        attempt.request_stop("the run stops")
