"""The threads beside the workers: lease renewal, stop notices, timers."""

import threading
from collections.abc import Callable
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk._transport.redis_errors import condition_of
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.executor.counters import Counters
from flowcraft_server.executor.liveness import Liveness, thread_runs
from flowcraft_server.executor.runner import NodeRunner
from flowcraft_server.executor.settings import WorkerSettings
from flowcraft_server.store.link import StoreLink, StoreUnavailable, connect

RENEWED_AT_ONCE = 200
DEADLINE_TICK = 0.05
SWEPT_AT_ONCE = 100
LONGEST_SWEEP_PAUSE = 0.25
"""Seconds by which a timer that another process has just set may be late."""


class Periodic:
    """A daemon thread that calls `step` again and again, `step()` saying how many seconds to pause."""

    def __init__(self, name: str, step: Callable[[], float], stopping: threading.Event) -> None:
        self._step = step
        self._stopping = stopping
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._name = name

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next step taken now."""
        self._wake.set()

    def restart_if_dead(self) -> bool:
        """Start another thread if this one has died; returns whether it had."""
        if self._stopping.is_set() or thread_runs(self._thread):
            return False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return True

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, which `stopping` and a `wake` bring about."""
        self._thread.join(timeout)

    def _run(self) -> None:
        quiet = True
        while not self._stopping.is_set():
            try:
                pause = self._step()
                quiet = True
            except (StoreUnavailable, redis.exceptions.RedisError) as error:
                if quiet:
                    condition = condition_of(error)
                    logger.warning(
                        "{}: {}", self._name, error if condition is None else f"Redis refuses: {condition.advice}"
                    )
                quiet, pause = False, 0.5
            except BaseException:  # leases, timers and cancellation depend on these threads
                logger.exception("{} met an error of its own", self._name)
                pause = 0.5
            self._wake.wait(pause)
            self._wake.clear()


class LeaseKeeper:
    """Renews the leases of what really runs, in a thread of its own, so that a busy handler is not taken for dead."""

    def __init__(
        self,
        link: StoreLink,
        runner: NodeRunner,
        keys: Keys,
        settings: WorkerSettings,
        liveness: Liveness,
        counters: Counters,
        announce: Callable[[], object],
    ) -> None:
        self._link = link
        self._runner = runner
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
        for attempt in self._runner.held.all():
            if attempt.deadline is None or attempt.over:
                continue
            watched = True
            if now >= attempt.deadline:
                self._runner.timed_out(attempt)
        if now >= self._next_renewal:
            self._renew()
            self._next_renewal = now + self._settings.heartbeat
        pause = max(0.0, self._next_renewal - clock())
        return min(pause, DEADLINE_TICK) if watched else min(pause, 0.5)

    def _renew(self) -> None:
        for attempt in self._liveness.lost():
            self._counters.attempts_given_up += 1
            self._runner.held.remove(attempt)
            self._runner.give_up(attempt, "no code runs for it any more")
        held = [(a.claim.run_id, a.claim.instance_id, a.claim.fencing_token) for a in self._runner.held.all()]
        for first in range(0, max(1, len(held)), RENEWED_AT_ONCE):
            part = held[first : first + RENEWED_AT_ONCE]
            call = scripts.renew(
                self._keys, worker=self._settings.worker_id, lease_ms=self._settings.lease_ms, held=part
            )
            told = [item.decode() for item in self._link.call(call)]
            for run_id, instance_id, what in zip(told[::3], told[1::3], told[2::3], strict=True):
                self._told(run_id, instance_id, what)
        counted: dict[Any, Any] = dict(self._counters.fields())
        worker = self._keys.worker(self._settings.worker_id)
        if not self._link.call_once(lambda: self._link.redis.exists(worker)):  # Redis was emptied
            self._announce()
            self._counted = {}
        if counted != self._counted:
            self._link.call_once(lambda: self._link.redis.hset(worker, mapping=counted))
            self._counted = counted

    def _told(self, run_id: str, instance_id: str, what: str) -> None:
        attempt = self._runner.held.get(run_id, instance_id)
        if attempt is None or attempt.over:
            return
        if what == "lost":
            logger.warning("run {} node {}: the lease is lost, another worker may run it", run_id, instance_id)
            self._runner.lose_lease(attempt, "lost")
        attempt.request_stop("the run stops")


class StopListener:
    """Hears which runs stop, over one connection, and tells their nodes here."""

    def __init__(self, url: str, runner: NodeRunner, keys: Keys, stopping: threading.Event) -> None:
        self._redis = connect(url)
        self._runner = runner
        self._keys = keys
        self._stopping = stopping

    def step(self) -> float:
        """Subscribe until the connection breaks or the process stops."""
        pubsub: Any = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with pubsub:
            pubsub.subscribe(self._keys.control)
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=0.25)
                if message is not None and message["type"] == "message":
                    run_id, _, why = message["data"].decode().partition("|")
                    if why == "goes-on":
                        self._runner.poke_sweeper(0.0)
                    elif why == "over":
                        self._runner.lose_leases_of_run(run_id)
                    else:
                        self._runner.held.stop_run(run_id, why)
        return 0.0


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
