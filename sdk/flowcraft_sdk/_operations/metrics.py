"""Everything that is counted and measured of a deployment."""

from typing import Any

from flowcraft_sdk._operations import stats, usage
from flowcraft_sdk._operations.deployment import Deployment, partitions_of, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk._operations.queues import counted_queues, limits
from flowcraft_sdk.protocol import ended_counts, work_counts
from flowcraft_sdk.protocol.ended_counts import ClassCounts
from flowcraft_sdk.protocol.usage_sums import days_back
from flowcraft_sdk.records import BlueprintMetrics, DeploymentMetrics, HandlerMetrics, Histogram

LATE_MS = 1000
"""For which a timer may be due: sweeps are four times a second."""

USAGE = ("all", "blueprint", "model")
"""Sums of model calls that are metrics; tags may be of any number."""


def metrics(deployment: Deployment) -> Operation[DeploymentMetrics]:
    """What was counted since the deployment began, and how it does now."""
    now = yield from server_ms(deployment)
    present = yield from stats.present(deployment, now)
    partitions = (yield from partitions_of(deployment)).all
    reads = [
        read
        for keys in partitions
        for read in (
            command("HGET", keys.stats, "stale"),
            command("ZCARD", keys.dead),
            command("HLEN", keys.broken),
            command("ZCOUNT", keys.timers, "-inf", now - LATE_MS),
            command("ZRANGE", keys.timers, 0, 0, "WITHSCORES"),
        )
    ]
    work, scripts, *replies = yield Batch(
        (command("HGETALL", deployment.keys.work), command("INFO", "commandstats"), *reads), bearing=True
    )
    stale, dead, broken, late = (sum(_count(reply) for reply in replies[at::5]) for at in range(4))
    due = [score for reply in replies[4::5] if isinstance(reply, list) for _, score in scored(reply)]
    (today,) = days_back(now, 1)
    handlers = _handlers(stats.fields_of(work))
    calls, seconds = _scripts(scripts) if present["memory"] is not None else (None, None)
    lost = handlers.pop("", None)
    ended = yield from stats.totals(deployment)
    blueprints = [_blueprint(name, classes) for name, classes in ended.items()]
    return DeploymentMetrics(
        **{name: value for name, value in present.items() if name in DeploymentMetrics.model_fields},
        blueprints=tuple(sorted(blueprints, key=lambda each: (-each.durations.count, each.blueprint_id))),
        handlers=tuple(sorted(_made(handlers, lost), key=lambda each: (-each.durations.count, each.handler))),
        queues=tuple((yield from counted_queues(deployment))),
        limits=tuple((yield from limits(deployment))),
        usage=tuple(row for row in (yield from usage.of_day(deployment, today)) if row.kind in USAGE),
        usage_total=tuple((yield from usage.of_all_time(deployment))),
        leases_lost=sum((lost or {}).get(work_counts.LEASES_LOST, {}).values()),
        stale_outcomes=stale,
        dead_letters=dead,
        broken=broken,
        timers_late=late,
        timer_delay=max(0.0, (now - min(due)) / 1000) if due else 0.0,
        script_calls=calls,
        script_seconds=seconds,
    )


Work = dict[str, dict[str, dict[str, int]]]
"""By handler and what was counted, the details."""


def _count(reply: Any) -> int:
    """A reply as a number; 0 for none, and where a key of another type has its name."""
    if isinstance(reply, int):
        return reply
    found = "" if reply is None or isinstance(reply, Exception) else text(reply)
    return int(found) if found.isdecimal() and len(found) <= stats.MOST_DIGITS else 0


def _handlers(fields: Any) -> Work:
    found: Work = {}
    for (what, handler), details in work_counts.split(fields).items():
        found.setdefault(handler, {})[what] = details
    return found


def _made(handlers: Work, others: dict[str, dict[str, int]] | None) -> list[HandlerMetrics]:
    if others and work_counts.ATTEMPTS in others:
        handlers = {**handlers, "": others}
    return [
        HandlerMetrics(
            handler=name,
            attempts=counted.get(work_counts.ATTEMPTS, {}),
            durations=_histogram(counted.get(work_counts.DURATIONS, {})),
            delays=_histogram(counted.get(work_counts.DELAYS, {})),
        )
        for name, counted in handlers.items()
    ]


def _histogram(details: dict[str, int]) -> Histogram:
    found = work_counts.observed(details)
    buckets = {2**number / 1_000_000: count for number, count in sorted(found.buckets.items())}
    return Histogram(buckets=buckets, count=sum(buckets.values()), sum=found.microseconds / 1_000_000)


def _blueprint(name: str, classes: ClassCounts) -> BlueprintMetrics:
    buckets: dict[float, int] = {}
    for (_, number), count in sorted(classes.items(), key=lambda each: each[0][1]):
        bound = ended_counts.longest_of(number)
        buckets[bound] = buckets.get(bound, 0) + count
    durations = Histogram(buckets=buckets, count=classes.total())
    return BlueprintMetrics(blueprint_id=name, ended=ended_counts.by_state(classes), durations=durations)


def _scripts(info: Any) -> tuple[int | None, float | None]:
    """How many script calls there were, and how many seconds they took."""
    if not isinstance(info, dict):
        return None, None
    found = [info[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if isinstance(info.get(name), dict)]
    return sum(int(each["calls"]) for each in found), sum(float(each["usec"]) for each in found) / 1_000_000
