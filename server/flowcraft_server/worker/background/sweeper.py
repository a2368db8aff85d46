"""Timers that are due, and nodes whose leases have expired."""

import threading
from collections.abc import Mapping
from typing import Any

from loguru import logger

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.store.link import StoreLink
from flowcraft_server.worker.background.lost_workers import alone_in, lost_workers
from flowcraft_server.worker.home_partitions import HomePartitions
from flowcraft_server.worker.settings import WorkerSettings

SWEPT_AT_ONCE = 100
LONGEST_SWEEP_PAUSE = 0.25
"""Seconds by which a timer that another process has just set may be late."""

SECOND_PAUSE = 0.5
ELSEWHERE_PAUSE = 2.0
"""Seconds between two looks at a partition that the worker is not at home in, in case none of those lives that are."""


class Sweeper:
    """Takes over what dead workers left and fires timers. Every process has one; none is the leader.

    All partitions that are due are swept in one pipeline. Of several those are left out in which there is nothing to do: a few
    plain reads cost a tenth of the script.

    Args:
        homes: says which partitions are looked at how often; None for a single one.
    """

    def __init__(
        self, link: StoreLink, partitions: Partitions, settings: WorkerSettings, homes: HomePartitions | None = None
    ) -> None:
        self._link = link
        self._partitions = partitions
        self._settings = settings
        self._homes = homes
        self._lock = threading.Lock()
        self._due = dict.fromkeys(partitions.all, 0.0)
        self._reads: dict[Keys, list[tuple[Any, ...]]] = {
            keys: [
                *(("ZRANGE", key, 0, 0, "WITHSCORES") for key in (keys.leases, keys.timers)),
                *(("EXISTS", keys.ready(queue)) for queue in settings.queues),
            ]
            for keys in partitions.all
        }

    def expect(self, seconds: float, run_id: str | None = None) -> None:
        """Something falls due that early, of a run or of any: do not sleep past it."""
        some = self._partitions.all if run_id is None else (self._partitions.for_run(run_id),)
        with self._lock:
            for keys in some:
                self._due[keys] = min(self._due[keys], clock() + seconds)

    def step(self) -> float:
        """Sweep once; returns the pause in seconds."""
        settings, due = self._settings, self._partitions.all
        with self._lock:
            if self._homes is not None:
                due = tuple(keys for keys in due if self._due[keys] <= clock())
            for keys in due:
                self._due[keys] = float("inf")
        alone: Mapping[Keys, list[str]] = {}
        if self._homes is not None:
            due, alone = self._with_something_to_do(due)
        calls = [
            scripts.sweep(
                keys,
                limit=SWEPT_AT_ONCE,
                max_crashes=settings.max_crashes,
                grace_ms=int(settings.cancel_grace * 1000),
                queues=",".join(settings.queues),
                alone=alone.get(keys, ()),
            )
            for keys in due
        ]
        failure = None
        for keys, reply in zip(due, self._send(due, calls), strict=True):
            if isinstance(reply, Exception):
                failure, pause = reply, LONGEST_SWEEP_PAUSE
            else:
                pause = self._pause_after(keys, *(int(part) for part in reply))
            self._expect_next(keys, pause)
        if failure is not None:
            raise failure
        return max(0.0, min(self._due.values()) - clock())

    def _with_something_to_do(self, due: tuple[Keys, ...]) -> tuple[tuple[Keys, ...], Mapping[Keys, list[str]]]:
        """Those of some partitions that have ready nodes, or a lease or a timer that is due; and `alone` of their sweeps."""
        if not due:
            return (), {}
        commands: list[tuple[Any, ...]] = [("TIME",), ("GET", self._partitions.home.clock)]
        for keys in due:
            commands += self._reads[keys]
        try:
            (seconds, micros), offset, *replies = self._link.read_each(commands)
            now = int(seconds) * 1000 + int(micros) / 1000 + int(offset or 0)
            width = 2 + len(self._settings.queues)
            heads = [replies[place * width] for place in range(len(due))]
            expired = [keys for keys, head in zip(due, heads, strict=True) if _is_due(head, now)]
            workers = lost_workers(self._link, expired, now, SWEPT_AT_ONCE) if expired else ()
            alone = alone_in(self._link, self._partitions, workers) if workers else {}
        except BaseException:
            for keys in due:
                self._expect_next(keys, LONGEST_SWEEP_PAUSE)
            raise
        busy = []
        for place, keys in enumerate(due):
            found = replies[place * width : (place + 1) * width]
            if any(isinstance(reply, Exception) for reply in found) or any(found[2:]):
                busy.append(keys)  # what cannot be read the script sets aside
                continue
            wait_ms = min((float(head[1]) - now for head in found[:2] if head), default=-1)
            if found[0] or found[1]:
                wait_ms = max(0, wait_ms)
            if wait_ms == 0:
                busy.append(keys)
            else:
                self._expect_next(keys, self._pause_after(keys, 0, int(wait_ms), 0))
        return tuple(busy), alone

    def _send(self, due: tuple[Keys, ...], calls: list[ScriptCall]) -> list[Any]:
        try:
            return self._link.send(calls) if calls else []
        except BaseException:
            for keys in due:
                self._expect_next(keys, LONGEST_SWEEP_PAUSE)
            raise

    def _expect_next(self, keys: Keys, pause: float) -> None:
        with self._lock:
            self._due[keys] = min(self._due[keys], clock() + pause)

    def _pause_after(self, keys: Keys, done: int, wait_ms: int, taken_over: int) -> float:
        if taken_over:
            logger.warning("took over {} nodes whose worker had died or stalled", taken_over)
        if done >= SWEPT_AT_ONCE:
            return 0.0
        rank = 0 if self._homes is None else self._homes.rank(keys)
        if rank > 1:
            return ELSEWHERE_PAUSE
        longest = LONGEST_SWEEP_PAUSE if rank == 0 else SECOND_PAUSE
        return longest if wait_ms < 0 else min(longest, wait_ms / 1000 + 0.001)


def _is_due(head: Any, now: float) -> bool:
    """Whether the first entry of a sorted set, with its score, is due."""
    return isinstance(head, list) and bool(head) and float(head[1]) <= now
