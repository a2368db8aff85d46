"""What the page of the overview shows."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowcraft_sdk import AsyncClient, RunStatus, Stats, Usage
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.records.counts import counted

from .charts import durations_chart, runs_chart
from .formats import duration, size
from .rendering import url

WINDOWS = {"1h": "Hour", "24h": "Day", "7d": "7 days", "30d": "30 days"}
"""By how the API writes it."""

KEPT_SECONDS = 2.0
"""For which all pages of a process show the same figures."""

MOST_ROWS = 12
LATEST, FAILURES = 12, 6
NEARLY_FULL = 0.8
"""Share of the memory above which it is shown as a warning."""


class RecentStats:
    """Reads figures for many pages at once.

    Args:
        read: reads those of a window.
    """

    def __init__(self, read: Callable[[str], Awaitable[Stats]]) -> None:
        self._read = read
        self._kept: dict[str, tuple[float, Stats]] = {}
        self._locks = {window: asyncio.Lock() for window in WINDOWS}

    async def of(self, window: str) -> Stats:
        """The figures of one of `WINDOWS`, a moment old at most."""
        async with self._locks[window]:
            at, found = self._kept.get(window, (float("-inf"), None))
            if found is None or clock() - at > KEPT_SECONDS:
                found = await self._read(window)
                self._kept[window] = clock(), found
            return found


async def overview_values(client: AsyncClient, recent: RecentStats, window: str) -> dict[str, Any]:
    """What the template needs.

    Args:
        window: one of `WINDOWS`.
    """

    async def runs(limit: int, *states: RunStatus) -> list[Any]:
        return [run async for run in client.list_runs(page_size=limit, limit=limit, status=states or None)]

    stats, latest, failed, known = await asyncio.gather(
        recent.of(window), runs(LATEST), runs(FAILURES, RunStatus.FAILED, RunStatus.TIMED_OUT), client.blueprints()
    )
    return {
        "stats": stats,
        "now_figures": _now_figures(stats),
        "window_figures": _window_figures(stats),
        "charts": (runs_chart(stats), durations_chart(stats)),
        "blueprints": sorted(stats.blueprints, key=lambda each: (-each.failed - each.timed_out, -each.ended))[
            :MOST_ROWS
        ],
        "more_blueprints": max(0, len(stats.blueprints) - MOST_ROWS),
        "windows": WINDOWS,
        "window": window,
        "latest": latest,
        "failed": failed,
        "a_blueprint": known[0].id if known else "",
    }


def _now_figures(stats: Stats) -> list[dict[str, Any]]:
    number: Mapping[str, int] = stats.runs
    of_state = f"{url('runs')}?status="
    oldest = duration(stats.oldest_age)
    share = stats.memory / stats.memory_limit if stats.memory is not None and stats.memory_limit else None
    limit = "no limit is set" if stats.memory_limit is None else f"of {size(stats.memory_limit)}"
    return [
        _figure("Running", "running", f"{number['running']:,}", f"{number['queued']:,} queued", of_state + "running"),
        _figure("Waiting", "waiting", f"{number['waiting']:,}", "for people, times, child runs", url("waiting")),
        _figure("Ready nodes", "queued", f"{stats.ready:,}", f"oldest for {oldest}" if oldest else "none waits",
                url("operations")),
        _figure(
            "Busy workers", "workers", f"{stats.busy_workers} / {stats.workers}" if stats.workers else "0",
            f"{counted(stats.running, 'node')} in {counted(stats.slots, 'slot')}" if stats.workers else "nothing runs",
            url("operations"), warns=not stats.workers,
        ),
        _figure(
            "Redis memory", "graph", size(stats.memory) if stats.memory is not None else "–",
            limit if stats.memory is not None else "a Cluster has several", url("operations"),
            share=share, warns=share is not None and share > NEARLY_FULL,
        ),
        *_cost_figures(stats.used_today),
    ]  # fmt: skip


def _cost_figures(used: Usage | None) -> list[dict[str, Any]]:
    """What model calls have cost today; nothing if there was none."""
    if used is None:
        return []
    calls = counted(used.calls, "call")
    more = f"{used.unpriced_calls:,} without a price" if used.unpriced_calls else counted(used.tokens, "token")
    return [_figure("Model cost today", "models", used.cost, f"{calls}, {more}")]


def _window_figures(stats: Stats) -> list[dict[str, Any]]:
    minutes = max(1.0, (stats.until - stats.since).total_seconds() / 60)
    failed = stats.failed + stats.timed_out
    rate = stats.ended / minutes
    return [
        _figure("Runs a minute", "runs", f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.2g}", f"{stats.ended:,} ended"),
        _figure("Failed", "failed" if failed else "completed", f"{failed / stats.ended:.1%}" if stats.ended else "–",
                f"{failed:,} of {stats.ended:,}"),
        _figure("p50 duration", "queued", duration(stats.p50) or "–", "half took that at most"),
        _figure("p95 duration", "queued", duration(stats.p95) or "–", "95 of 100 took that at most"),
    ]  # fmt: skip


def _figure(
    label: str, icon: str, value: str, note: str, href: str = "", *, share: float | None = None, warns: bool = False
) -> dict[str, Any]:
    """A figure.

    Args:
        share: of what there may be, from 0 to 1: drawn as a bar.
        warns: whether it is shown as a warning.
    """
    state = "warning" if warns else icon
    return {"label": label, "state": state, "value": value, "note": note, "href": href, "share": share}
