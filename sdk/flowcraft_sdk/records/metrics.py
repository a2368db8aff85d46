"""What `admin.metrics` returns: everything that is counted and measured of a deployment."""

from collections.abc import Mapping

from flowcraft_sdk.records.limits import LimitInfo
from flowcraft_sdk.records.runs import QueueInfo, Record
from flowcraft_sdk.records.usage import UsageOfDay, UsageTotal


class Histogram(Record):
    """How long something took.

    Attributes:
        buckets: By an upper bound in seconds, how many took that at most, and more than the bound before.
        count: How many there were.
        sum: Seconds of all together; None if that is not known.
    """

    buckets: Mapping[float, int] = {}
    count: int = 0
    sum: float | None = None


class BlueprintMetrics(Record):
    """All runs of a blueprint that have ended.

    Attributes:
        blueprint_id: Id of the blueprint; empty for those that are counted together because there are too many.
        ended: By state, how many.
        durations: How long they took, from the first node's begin to the end.
    """

    blueprint_id: str
    ended: Mapping[str, int]
    durations: Histogram


class HandlerMetrics(Record):
    """All that nodes of a handler did.

    Attributes:
        handler: Name of the handler; empty for those that are counted together because there are too many.
        attempts: By how they ended (completed, failed, retried, cancelled), how many.
        durations: How long attempts took.
        delays: How long nodes were ready before a worker claimed them, limits included.
    """

    handler: str
    attempts: Mapping[str, int]
    durations: Histogram
    delays: Histogram


class DeploymentMetrics(Record):
    """A deployment: what was counted since it began, and how it does now.

    Attributes:
        runs: By state, how many runs there are.
        blueprints: What was counted of each blueprint, the ones with the most runs first.
        handlers: What was counted of each handler, the ones with the most attempts first.
        queues: The queues.
        limits: The limits.
        usage: What model calls have used since midnight UTC: of all, of each blueprint and of each model.
        usage_total: What they have used since the deployment began: of all, of each of the first 100 blueprints and models.
        workers: Workers that were seen lately.
        busy_workers: Those that ran nodes when they were seen last.
        slots: Functions that they run at once, in all.
        running: Nodes that run.
        leases_lost: How often a worker found that a node it ran had been given to another one.
        stale_outcomes: Outcomes that were refused because the node was no longer the worker's.
        dead_letters: How many there are.
        broken: Records and entries that cannot be read and were set aside.
        timers_late: Timers that were due more than a second ago.
        timer_delay: Seconds since the one was due that is the latest.
        memory: Bytes that Redis uses; None for a Cluster, which has several.
        memory_limit: Bytes that it may use; None if there is no limit.
        script_calls: Script calls that Redis has run since it was started, of all its users; None for a Cluster.
        script_seconds: Seconds that they took; None for a Cluster.
    """

    runs: Mapping[str, int]
    blueprints: tuple[BlueprintMetrics, ...] = ()
    handlers: tuple[HandlerMetrics, ...] = ()
    queues: tuple[QueueInfo, ...] = ()
    limits: tuple[LimitInfo, ...] = ()
    usage: tuple[UsageOfDay, ...] = ()
    usage_total: tuple[UsageTotal, ...] = ()
    workers: int = 0
    busy_workers: int = 0
    slots: int = 0
    running: int = 0
    leases_lost: int = 0
    stale_outcomes: int = 0
    dead_letters: int = 0
    broken: int = 0
    timers_late: int = 0
    timer_delay: float = 0.0
    memory: int | None = None
    memory_limit: int | None = None
    script_calls: int | None = None
    script_seconds: float | None = None
