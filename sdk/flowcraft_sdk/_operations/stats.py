"""Counts of ended runs over time, and how the deployment does now."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_sdk._operations.deployment import WORKER_FRESH, Deployment, Seconds, partitions_of, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import scored
from flowcraft_sdk._operations.queues import counted_queues
from flowcraft_sdk._operations.usage import used_today
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import ended_counts
from flowcraft_sdk.protocol.bounds import check_span
from flowcraft_sdk.protocol.ended_counts import ClassCounts
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import STATES, BlueprintStats, Stats, StatsPoint

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_WINDOW = 30 * DAY
"""Seconds; hours are kept for as long, minutes for a day."""

MOST_POINTS = 125
STEPS = (MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE)
LONG_STEPS = (HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR)
MOST_DIGITS = 15

Parts = dict[int, dict[str, ClassCounts]]
"""By when a part begins (s), by blueprint, the counts."""


def checked_window(window: Seconds) -> float:
    """A window in seconds.

    Raises:
        ConfigurationError: it is none, or longer than what is kept.
    """
    seconds = check_span(window, "window")
    if seconds is None or not MINUTE <= seconds <= LONGEST_WINDOW:
        raise ConfigurationError(
            f"window is a minute at least and 30 days at most, got {window!r}; write 1h, 24h or 30d"
        )
    return seconds


def stats(deployment: Deployment, window: Seconds) -> Operation[Stats]:
    """Runs that have ended in the window, and the deployment as it is now."""
    seconds = checked_window(window)
    now = yield from server_ms(deployment)
    unit, steps = (MINUTE, STEPS) if seconds <= DAY else (HOUR, LONG_STEPS)
    step = next((each for each in steps if seconds / each <= MOST_POINTS), steps[-1])
    first = (int(now / 1000 - seconds) // unit + 1) * unit
    counts: defaultdict[int, defaultdict[str, ClassCounts]] = defaultdict(lambda: defaultdict(Counter))
    for at, blueprint_id, classes in (yield from _read(deployment, unit, first, now // 1000)):
        if at >= first:
            counts[first + (at - first) // step * step][blueprint_id].update(classes)
    points, blueprints, in_all = [], defaultdict[str, ClassCounts](Counter), Counter[tuple[str, int]]()
    for at in range(first, now // 1000 + 1, step):
        part: ClassCounts = Counter()
        for blueprint_id, classes in counts[at].items():
            part.update(classes)
            blueprints[blueprint_id].update(classes)
        in_all.update(part)
        points.append(StatsPoint(at=moment(at * 1000), **_counts(part)))
    of_blueprints = [BlueprintStats(blueprint_id=name, **_counts(classes)) for name, classes in blueprints.items()]
    return Stats(
        since=moment(first * 1000),
        until=moment(now),
        step=float(step),
        points=tuple(points),
        blueprints=tuple(sorted(of_blueprints, key=lambda each: (-each.ended, each.blueprint_id))),
        **_counts(in_all),
        **(yield from present(deployment, now)),
    )


def totals(deployment: Deployment) -> Operation[dict[str, ClassCounts]]:
    """All runs that have ended, by blueprint."""
    partitions = (yield from partitions_of(deployment)).all
    reads = [command("HGETALL", key) for keys in partitions for key in (keys.totals, keys.counting)]
    replies = yield Batch(tuple(reads), bearing=True)
    found: defaultdict[str, ClassCounts] = defaultdict(Counter)
    for reply in replies[::2]:
        for name, value in fields_of(reply).items():
            found[name].update(ended_counts.classes(value))
    for reply in replies[1::2]:
        for _, name, classes in ended_counts.counting(fields_of(reply)):
            found[name].update(classes)
    return dict(found)


def _read(deployment: Deployment, unit: int, first: int, last: int) -> Operation[list[tuple[int, str, ClassCounts]]]:
    """Counts by the time (s) at which their minute or hour begins, from `first` to `last`."""
    partitions = (yield from partitions_of(deployment)).all
    spans = range(first // HOUR, last // HOUR + 1) if unit == MINUTE else range(first // DAY, last // DAY + 1)
    reads = [command("HGETALL", keys.counting) for keys in partitions]
    reads += [
        command("HGETALL", keys.minutes(span) if unit == MINUTE else keys.hours(span))
        for keys in partitions
        for span in spans
    ]
    replies = yield Batch(tuple(reads), bearing=True)
    found: list[tuple[int, str, ClassCounts]] = []
    for reply in replies[: len(partitions)]:
        for minute, name, classes in ended_counts.counting(fields_of(reply)):
            found.append((minute * MINUTE // unit * unit, name, classes))
    for reply in replies[len(partitions) :]:
        found += [(number * unit, name, classes) for number, name, classes in ended_counts.kept(fields_of(reply))]
    return found


def fields_of(reply: Any) -> Mapping[str, str]:
    """A hash as texts; an empty one where a key of another type has its name."""
    return {text(key): text(value) for key, value in reply.items()} if isinstance(reply, dict) else {}


def _counts(classes: ClassCounts) -> dict[str, Any]:
    return {
        "ended": classes.total(),
        **ended_counts.by_state(classes),
        "p50": ended_counts.quantile(classes, 0.5),
        "p95": ended_counts.quantile(classes, 0.95),
    }


def present(deployment: Deployment, now: int) -> Operation[dict[str, Any]]:
    """How the deployment does now."""
    partitions = (yield from partitions_of(deployment)).all
    names = sorted(STATES)
    counted = [key for keys in partitions for key in (keys.leases, *map(keys.index_status, names))]
    server, memory, *counts = yield Batch(
        (command("INFO", "server"), command("INFO", "memory"), *(command("ZCARD", key) for key in counted)),
        bearing=True,
    )
    sums = [
        sum(count for count in counts[at :: len(names) + 1] if isinstance(count, int)) for at in range(len(names) + 1)
    ]
    queues = yield from counted_queues(deployment)
    ages = [queue.oldest_age for queue in queues if queue.oldest_age is not None]
    held = yield from _held(deployment, now)
    is_one = isinstance(memory, dict) and isinstance(server, dict) and server.get("redis_mode") != "cluster"
    return {
        "runs": dict(zip(names, sums[1:], strict=True)),
        "ready": sum(queue.ready for queue in queues),
        "oldest_age": max(ages, default=None),
        "workers": len(held),
        "busy_workers": sum(holds > 0 for holds, _ in held),
        "slots": sum(slots for _, slots in held),
        "running": sums[0],
        "memory": int(memory["used_memory"]) if is_one and "used_memory" in memory else None,
        "used_today": (yield from used_today(deployment, now)),
        "memory_limit": int(memory.get("maxmemory") or 0) or None if is_one else None,
    }


def _held(deployment: Deployment, now: int) -> Operation[list[tuple[int, int]]]:
    """Of each live worker how many nodes it held when it was seen last, and how many functions it runs at once."""
    keys = deployment.keys
    since = now - int(WORKER_FRESH * 1000)
    seen = scored((yield command("ZRANGEBYSCORE", keys.workers, since, "+inf", "WITHSCORES")))
    if not seen:
        return []
    reads = [command("HMGET", keys.worker(name), "held", "concurrency") for name, _ in seen]
    replies = yield Batch(tuple(reads), bearing=True)
    return [_numbers(reply) if isinstance(reply, list) else (0, 0) for reply in replies]


def _numbers(reply: Iterable[Any]) -> tuple[int, int]:
    texts = [text(value) if value is not None else "" for value in reply]
    held, slots = (int(value) if value.isdecimal() and len(value) <= MOST_DIGITS else 0 for value in texts)
    return held, slots
