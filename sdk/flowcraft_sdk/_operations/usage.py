"""What the model calls of the latest days have used."""

import re
from collections.abc import Iterable
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk.protocol.bounds import check_count
from flowcraft_sdk.protocol.usage_sums import days_back, read_day, read_sum, read_totals, total
from flowcraft_sdk.records import Usage, UsageOfDay, UsageTotal

MOST_DAYS = 40
"""Sums of a day are kept for as long."""

MOST_NAMES = 500
"""Blueprints, tags and models of a day that have sums of their own, of each kind; a partition may have 10,000."""

_KINDS = ("all", "blueprint", "tag", "model", "rest")
_SUM = re.compile(r"\d{1,20}(\|\d{1,20}){6,7}")


def checked_days(days: int) -> int:
    """A number of days.

    Raises:
        ConfigurationError: it is none, or more than what is kept.
    """
    return check_count(days, "days", MOST_DAYS, least=1)


def usage(deployment: Deployment, days: int) -> Operation[list[UsageOfDay]]:
    """Sums of the latest days, today's first."""
    count = checked_days(days)
    found: list[UsageOfDay] = []
    for day in days_back((yield from server_ms(deployment)), count):
        found += yield from of_day(deployment, day)
    return found


def of_day(deployment: Deployment, day: int) -> Operation[list[UsageOfDay]]:
    """Sums of a day, over all partitions: of each kind those that cost the most first, and no more than `MOST_NAMES`.

    Args:
        day: days since 1970.
    """
    partitions = (yield from partitions_of(deployment)).all
    return _bounded(read_day(day, (yield from _sums_in([keys.usage(day) for keys in partitions]))))


def of_all_time(deployment: Deployment) -> Operation[list[UsageTotal]]:
    """Sums since the deployment began, over all partitions, by name."""
    partitions = (yield from partitions_of(deployment)).all
    return read_totals((yield from _sums_in([keys.usage_total for keys in partitions])))


def _sums_in(hashes: list[str]) -> Operation[dict[str, list[str]]]:
    """The sums in some hashes, by their names; what is none is left out."""
    replies = yield Batch(tuple(command("HGETALL", each) for each in hashes), bearing=True)
    sums: dict[str, list[str]] = {}
    for reply in replies:
        for name, value in reply.items() if isinstance(reply, dict) else ():
            if _SUM.fullmatch(found := text(value)):
                sums.setdefault(text(name), []).append(found)
    return sums


def used_today(deployment: Deployment, now: int) -> Operation[Usage | None]:
    """What all model calls of today have used; None if there was none.

    Args:
        now: the time of the deployment, in ms.
    """
    partitions = (yield from partitions_of(deployment)).all
    (today,) = days_back(now, 1)
    replies = yield Batch(tuple(command("HGET", keys.usage(today), "*") for keys in partitions), bearing=True)
    texts = [text(reply) for reply in replies if isinstance(reply, bytes | str)]
    sums = [read_sum(each) for each in texts if _SUM.fullmatch(each)]
    return total(sums) if sums else None


def _bounded(rows: list[UsageOfDay]) -> list[UsageOfDay]:
    kept: list[UsageOfDay] = []
    beyond: list[UsageOfDay] = []
    for kind in _KINDS[:-1]:
        ordered = sorted((row for row in rows if row.kind == kind), key=_costly)
        kept += ordered[:MOST_NAMES]
        beyond += ordered[MOST_NAMES:]
    beyond += [row for row in rows if row.kind == "rest"]
    return [*kept, *_rest(beyond)]


def _rest(rows: Iterable[UsageOfDay]) -> list[UsageOfDay]:
    found = list(rows)
    if not found:
        return []
    return [UsageOfDay(day=found[0].day, kind="rest", usage=total(row.usage for row in found))]


def _costly(row: UsageOfDay) -> Any:
    return -row.usage.usd, -row.usage.tokens, row.name
