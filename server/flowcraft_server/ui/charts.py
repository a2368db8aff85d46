"""Curves and bars over time, as shapes in a box of fixed size; pages stretch it, labels stand beside it. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flowcraft_sdk import Stats, StatsPoint

from .formats import duration

WIDTH, HEIGHT = 600.0, 140.0
TICKS = 4
"""Stretches between the labels below a chart."""

LEAST_DECADES = 2
STACK = ("completed", "cancelled", "timed_out", "failed")
"""From the bottom to the top of a bar."""


@dataclass(frozen=True)
class Bar:
    """A part of a column: the runs of one state.

    Attributes:
        state: How they ended.
        x: Where it begins.
        y: Its upper end.
        width: How wide it is.
        height: How high it is.
    """

    state: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Column:
    """What ended in one part of the window.

    Attributes:
        bars: By state, from the bottom.
        x: Where it begins.
        width: How wide it is, with the gap.
        title: The same in words.
    """

    bars: tuple[Bar, ...]
    x: float
    width: float
    title: str


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: What it is of.
        path: As SVG has it; parts of the window without runs are left out.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        label: What it shows, in words.
        levels: What stands beside it, from the top to the bottom, at even distances.
        times: What stands below it, from left to right, at even distances.
        columns: Bars over time.
        lines: Curves over time.
        empty: Whether there is nothing to show.
    """

    label: str
    levels: tuple[str, ...]
    times: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    lines: tuple[Line, ...] = ()
    empty: bool = False


def runs_chart(stats: Stats) -> Chart:
    """Runs a minute that ended, by state."""
    rates = [_minutes(stats, point) for point in stats.points]
    highest = _round_up(
        max((point.ended / minutes for point, minutes in zip(stats.points, rates, strict=True)), default=0.0)
    )
    wide = WIDTH / max(1, len(stats.points))
    columns = []
    for number, (point, minutes) in enumerate(zip(stats.points, rates, strict=True)):
        bars, top, gap = [], HEIGHT, min(2.0, wide / 4)
        for state in STACK:
            height = getattr(point, state) / minutes / highest * HEIGHT
            if height:
                height = min(top, max(1.5, height))  # what is there is seen
                top -= height
                bars.append(
                    Bar(state, round(number * wide + gap / 2, 2), round(top, 2), round(wide - gap, 2), round(height, 2))
                )
        columns.append(Column(tuple(bars), round(number * wide, 2), round(wide, 2), _in_words(stats, point)))
    return Chart(
        f"Runs that ended, a minute: {stats.ended:,} in all, of which {stats.failed + stats.timed_out:,} failed or timed out",
        (_number(highest), _number(highest / 2), "0"),
        _times(stats),
        tuple(columns),
        empty=not stats.ended,
    )


def durations_chart(stats: Stats) -> Chart:
    """How long runs took: half of them at most, and 95 of 100 at most; on a logarithmic scale."""
    known = [value for point in stats.points for value in (point.p50, point.p95) if value is not None]
    least, most = max(0.001, min(known, default=0.1)), max(0.001, max(known, default=1.0))
    bottom, top = math.floor(math.log10(least)), math.ceil(math.log10(most))
    top = max(top, bottom + LEAST_DECADES)
    wide = WIDTH / max(1, len(stats.points))

    def line(name: str, values: Sequence[float | None]) -> Line:
        path, drawing = [], False
        for number, value in enumerate(values):
            if value is None:
                drawing = False
                continue
            height = (math.log10(max(value, 0.001)) - bottom) / (top - bottom) * HEIGHT
            place = f"{(number + 0.5) * wide:.2f} {HEIGHT - max(0.0, height):.2f}"
            # A single point is drawn as a line of no length, whose round ends make a dot.
            path.append(f"L{place}" if drawing else f"M{place}h.01")
            drawing = True
        return Line(name, "".join(path))

    return Chart(
        f"How long runs took: half of them {duration(stats.p50) or 'unknown'} at most, "
        f"95 of 100 {duration(stats.p95) or 'unknown'} at most",
        tuple(_span(10.0**power) for power in range(top, bottom - 1, -1)),
        _times(stats),
        lines=(line("p95", [point.p95 for point in stats.points]), line("p50", [point.p50 for point in stats.points])),
        empty=not known,
    )


def _minutes(stats: Stats, point: StatsPoint) -> float:
    """How many minutes of a part have passed; of the last one a quarter at least, as its rate would be a guess."""
    passed = (stats.until - point.at).total_seconds()
    return min(stats.step, max(passed, stats.step / 4)) / 60


def _in_words(stats: Stats, point: StatsPoint) -> str:
    at = _time(stats, point.at, exact=True)
    if not point.ended:
        return f"{at}: none"
    states = ", ".join(
        f"{getattr(point, state):,} {state.replace('_', ' ')}" for state in STACK if getattr(point, state)
    )
    return f"{at}: {states}; half took {duration(point.p50)} at most, 95 of 100 {duration(point.p95)}"


def _times(stats: Stats) -> tuple[str, ...]:
    length = timedelta(seconds=stats.step * len(stats.points)) / TICKS
    return tuple(_time(stats, stats.since + number * length) for number in range(TICKS)) + ("now",)


def _time(stats: Stats, at: datetime, *, exact: bool = False) -> str:
    at = at.astimezone(UTC)
    if stats.until - stats.since <= timedelta(days=1, hours=1):
        return at.strftime("%H:%M")
    return at.strftime("%d %b %H:%M") if exact else at.strftime("%d %b")


def _round_up(value: float) -> float:
    """The next value that reads well: 1, 2, 5, 10, 20, ..., or a tenth of that; 1 for nothing."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return float(next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= value * 0.9999))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"


def _span(seconds: float) -> str:
    """A power of ten seconds in the unit that reads best."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    for below, unit, name in ((1000, 1, "s"), (10_000, 60, "min"), (1_000_000, 3600, "h")):
        if seconds < below:
            return f"{seconds / unit:.{0 if seconds / unit >= 10 or unit == 1 else 1}f} {name}"
    return f"{seconds / 86_400:.0f} d"
