"""Lease renewal, and the end of what takes too long."""

from collections.abc import Callable
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.activity import Activity
from flowcraft_server.worker.attempt_control import AttemptControl
from flowcraft_server.worker.counters import Counters
from flowcraft_server.worker.home_partitions import HomePartitions
from flowcraft_server.worker.liveness import Liveness
from flowcraft_server.worker.settings import WorkerSettings

RENEWED_AT_ONCE = 200
CALLS_AT_ONCE = 64
DEADLINE_TICK = 0.05


class LeaseRenewer:
    """Renews the leases of what really runs, in a thread of its own, so that a busy handler is not taken for dead."""

    def __init__(
        self,
        link: StoreLink,
        control: AttemptControl,
        partitions: Partitions,
        settings: WorkerSettings,
        liveness: Liveness,
        counters: Counters,
        announce: Callable[[], object],
        homes: HomePartitions | None = None,
        activity: Activity | None = None,
    ) -> None:
        self._link = link
        self._control = control
        self._partitions = partitions
        self._homes = homes
        self._activity = activity
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
        partitions = self._partitions
        held_in: dict[Keys, list[tuple[str, str, str | int]]] = {keys: [] for keys in partitions.all}
        asked_for: dict[tuple[str, str], Attempt] = {}
        for attempt in self._control.held.all():
            claim = attempt.claim
            asked_for[claim.run_id, claim.instance_id] = attempt
            held_in[partitions.for_run(claim.run_id)].append((claim.run_id, claim.instance_id, claim.fencing_token))
        refusal = None
        calls = [  # in each partition one at least: the worker is alive
            scripts.renew(
                keys,
                worker=self._settings.worker_id,
                lease_ms=self._settings.lease_ms,
                held=held[first : first + RENEWED_AT_ONCE],
            )
            for keys, held in held_in.items()
            for first in range(0, max(1, len(held)), RENEWED_AT_ONCE)
        ]
        for first in range(0, len(calls), CALLS_AT_ONCE):
            for reply in self._link.send(calls[first : first + CALLS_AT_ONCE]):
                if isinstance(reply, Exception):
                    refusal = reply
                    continue
                stops = [item.decode() for item in reply]
                for run_id, instance_id, what in zip(stops[::3], stops[1::3], stops[2::3], strict=True):
                    self._stop(asked_for.get((run_id, instance_id)), run_id, instance_id, what)
        if refusal is not None:
            raise refusal
        if self._homes is not None:
            self._homes.look()
        counted: dict[Any, Any] = {**self._counters.fields(), "held": len(asked_for)}
        worker = self._partitions.home.worker(self._settings.worker_id)
        if not self._link.call_once(lambda: self._link.redis.hexists(worker, "pid")):  # Redis was emptied
            self._announce()
            self._counted = {}
        if counted != self._counted:
            self._link.call_once(lambda: self._link.redis.hset(worker, mapping=counted))
            self._counted = counted
        self._add_counts()

    def _add_counts(self) -> None:
        """Add what handlers have done to the deployment's counts; what was not confirmed is sent again the next time."""
        if self._activity is None:
            return
        call = self._activity.flush(self._partitions.home, self._settings.worker_id)
        if call is None:
            return
        (reply,) = self._link.send([call])
        if isinstance(reply, Exception):
            raise reply
        self._activity.confirm()

    def _stop(self, asked_for: Attempt | None, run_id: str, instance_id: str, what: str) -> None:
        attempt = self._control.held.get(run_id, instance_id)
        if attempt is None or attempt.has_ended:
            return
        if what == "lost":
            if attempt is not asked_for:
                return  # a node that was parked has been claimed again meanwhile, under a newer token: that lease holds
            logger.warning("run {} node {}: the lease is lost, another worker may run it", run_id, instance_id)
            self._control.lose_lease(attempt, "lost")
        attempt.request_stop("the run stops")
