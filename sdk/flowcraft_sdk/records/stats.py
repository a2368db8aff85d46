"""What `stats` returns: counts of runs over time, and how the deployment does now."""

from collections.abc import Mapping
from datetime import datetime

from flowcraft_sdk.records.runs import Record
from flowcraft_sdk.records.usage import Usage


class RunCounts(Record):
    """Runs that have ended, child runs included, and how long they took.

    Durations count from the first node's begin to the end. They are estimated from a histogram: no more than a fifth off.

    Attributes:
        ended: How many in all.
        completed: How many have completed.
        failed: How many have failed.
        cancelled: How many were cancelled.
        timed_out: How many passed their deadline.
        p50: Seconds that half of them took at most; None if none has ended.
        p95: Seconds that 95 of 100 took at most; None if none has ended.
    """

    ended: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    p50: float | None = None
    p95: float | None = None


class StatsPoint(RunCounts):
    """Runs that have ended in one part of a window.

    Attributes:
        at: When the part begins.
    """

    at: datetime


class BlueprintStats(RunCounts):
    """Runs of one blueprint that have ended in a window.

    Attributes:
        blueprint_id: Id of the blueprint; empty for those that are counted together because there are too many.
    """

    blueprint_id: str


class Stats(RunCounts):
    """Runs that have ended in a window, and the deployment as it is now.

    Attributes:
        since: When the window begins: at the beginning of a minute, or of an hour if it is longer than a day.
        until: When it ends: now.
        step: Seconds of each part of the window; the last one is not over.
        points: The parts, the earliest first.
        blueprints: Each blueprint that had runs, the one with the most first.
        runs: How many runs there are in each state, of those that are kept.
        ready: Nodes that are ready to run, in all queues.
        oldest_age: Seconds since the node became ready that has waited longest; None if there is none.
        workers: Workers that were seen lately.
        busy_workers: Those that ran nodes when they were seen last.
        slots: Functions that they run at once, in all.
        running: Nodes that run.
        memory: Bytes that Redis uses; None for a Cluster, which has several.
        memory_limit: Bytes that it may use (`maxmemory`); None if there is no limit.
        used_today: What model calls have used since midnight UTC; None if none was answered.
    """

    since: datetime
    until: datetime
    step: float
    points: tuple[StatsPoint, ...] = ()
    blueprints: tuple[BlueprintStats, ...] = ()
    runs: Mapping[str, int] = {}
    ready: int = 0
    oldest_age: float | None = None
    workers: int = 0
    busy_workers: int = 0
    slots: int = 0
    running: int = 0
    memory: int | None = None
    memory_limit: int | None = None
    used_today: Usage | None = None
