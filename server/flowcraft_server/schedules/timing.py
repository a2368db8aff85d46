"""The ticks of a schedule: of a cron expression in a time zone, or one every so often. Times are ms since 1970.

Cron expressions are in local time. On a day on which the clocks change:

- A schedule whose hours are `*` goes by elapsed time: each hour that passes has its ticks.
- Any other one fires once for each time of day. Of an hour that comes twice, only the first one counts. A tick in an hour that is
  left out fires at the end of that hour, once, however many ticks the hour would have had.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from flowcraft_sdk.records.counts import counted

SECOND_MS = 1000
LONGEST_EXPRESSION = 200
"""Characters of a cron expression."""

EVERY_HOUR = frozenset(range(24))
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HOW = "five fields: minute hour day-of-month month day-of-week, such as '30 2 * * *'"
_LAST_YEAR = 9000
"""Dates end in year 9999, and cronsim looks 50 years ahead."""


class TimingError(ValueError):
    """A cron expression or a time zone that is none; the message says what is expected."""


class Timing(Protocol):
    """When the ticks of a schedule are."""

    def after(self, moment: int) -> Iterator[int]:
        """The ticks later than a moment, in their order; without end, or until there is none in the next 50 years."""


@dataclass(frozen=True, slots=True)
class Every:
    """A tick every so many ms, counted from the beginning of 1970 in UTC: so they are the same for all servers and restarts."""

    interval: int

    def after(self, moment: int) -> Iterator[int]:
        """The ticks later than a moment. See `Timing`."""
        tick = moment // self.interval * self.interval
        while True:
            tick += self.interval
            yield tick


@dataclass(frozen=True, slots=True)
class Cron:
    """The ticks of a cron expression in a time zone. `cron` makes them."""

    expression: str
    zone: ZoneInfo
    elapsed: bool

    def after(self, moment: int) -> Iterator[int]:
        """The ticks later than a moment. See `Timing`."""
        seconds = moment // SECOND_MS
        begin = datetime.fromtimestamp(seconds, UTC)
        if begin.year > _LAST_YEAR:
            return
        before = seconds
        for local in CronSim(self.expression, begin.astimezone(UTC if self.zone.key == "UTC" else self.zone)):
            if local.year > _LAST_YEAR:
                return
            tick = int(local.timestamp())
            if tick > before:  # in the second pass through an hour that comes twice, cronsim names moments of the first
                before = tick
                yield tick * SECOND_MS


def cron(expression: str, zone: str = "UTC") -> Cron:
    """The ticks of a cron expression.

    Args:
        expression: five fields, or a nickname such as `@daily`.
        zone: an IANA time zone such as `Europe/Berlin`.

    Raises:
        TimingError: the expression or the zone is none, or the expression has no tick.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise TimingError(f"expected a cron expression, got {len(expression)} characters; write {_HOW}")
    written = expression.strip()
    plain = NICKNAMES.get(written.lower(), written)
    if written.startswith("@") and plain == written:
        raise TimingError(f"no cron nickname '{written}'; known: {', '.join(NICKNAMES)}; or write {_HOW}")
    fields = plain.split()
    if len(fields) != 5:
        raise TimingError(
            f"expected a cron expression, got '{written}' with {counted(len(fields), 'field')}; write {_HOW}"
        )
    try:
        parsed = CronSim(plain, datetime(2000, 1, 1, tzinfo=UTC))
        found = next(parsed, None)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        raise TimingError(f"'{written}' is no cron expression: wrong {wrong}; write {_HOW}") from None
    except (AssertionError, ValueError, TypeError, OverflowError):
        raise TimingError(f"'{written}' is no cron expression; write {_HOW}") from None
    if found is None:
        raise TimingError(f"'{written}' never comes: there is no such day in 50 years")
    elapsed = parsed.hours == EVERY_HOUR
    if not elapsed:
        # cronsim takes an expression with a leading `*` in minutes or hours for one that goes by elapsed time.
        fields[:2] = [re.sub(r"^\*", "0-59", fields[0]), re.sub(r"^\*", "0-23", fields[1])]
    else:
        fields[1] = "*"
    return Cron(" ".join(fields), zone_of(zone), elapsed)


def zone_of(name: str) -> ZoneInfo:
    """A time zone.

    Raises:
        TimingError: there is none of this name.
    """
    if name not in zone_names():
        raise TimingError(f"no time zone '{name}'; write UTC, or a name such as Europe/Berlin")
    return ZoneInfo(name)


@cache
def zone_names() -> frozenset[str]:
    """All time zones that this machine, or the package tzdata, knows."""
    return frozenset(available_timezones())


def first_after(timing: Timing, moment: int) -> int | None:
    """The first tick later than a moment, None if there is none."""
    return next(timing.after(moment), None)


def next_after(timing: Timing, moment: int, count: int) -> list[int]:
    """The first ticks later than a moment."""
    return list(islice(timing.after(moment), count))
