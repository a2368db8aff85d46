"""Charts: what ended is drawn where it belongs, and gaps stay gaps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowcraft_sdk import Stats, StatsPoint
from flowcraft_server.ui.charts import HEIGHT, WIDTH, durations_chart, runs_chart
from flowcraft_server.ui.formats import size

SINCE = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)


def stats(*points: dict[str, Any], step: float = 60.0) -> Stats:
    made = tuple(
        StatsPoint(
            at=SINCE + timedelta(seconds=step * number), ended=sum(v for k, v in each.items() if k[0] != "p"), **each
        )
        for number, each in enumerate(points)
    )
    return Stats(since=SINCE, until=SINCE + timedelta(seconds=step * len(points)), step=step, points=made,
                 ended=sum(point.ended for point in made), failed=sum(point.failed for point in made))  # fmt: skip


def test_bars_are_stacked_to_the_rate_of_their_minute() -> None:
    chart = runs_chart(stats({"completed": 3, "failed": 1}, {}, {"completed": 8}))
    assert chart.levels == ("10", "5", "0") and not chart.empty
    first, second, third = chart.columns
    assert [bar.state for bar in first.bars] == ["completed", "failed"] and not second.bars
    assert first.bars[0].height == pytest.approx(0.3 * HEIGHT) and first.bars[0].y == pytest.approx(0.7 * HEIGHT)
    assert first.bars[1].y + first.bars[1].height == pytest.approx(first.bars[0].y)
    assert third.bars[0].x + third.bars[0].width <= WIDTH
    assert first.title.startswith("23:30: 3 completed, 1 failed") and second.title == "23:31: none"
    assert chart.label.startswith("Runs that ended, a minute: 12 in all, of which 1 failed")


def test_a_curve_leaves_out_what_has_no_runs() -> None:
    chart = durations_chart(stats({"completed": 1, "p50": 0.1, "p95": 1.0}, {}, {"completed": 1, "p50": 1.0, "p95": 10.0},
                                  {"completed": 1, "p50": 1.0, "p95": 10.0}))  # fmt: skip
    assert chart.levels == ("10 s", "1 s", "100 ms")
    p95, p50 = chart.lines
    assert p50.path == f"M75.00 {HEIGHT:.2f}h.01M375.00 70.00h.01L525.00 70.00"
    assert p95.path.count("M") == 2 and p95.path.endswith("L525.00 0.00")


def test_nothing_makes_an_empty_chart() -> None:
    for chart in (runs_chart(stats({}, {})), durations_chart(stats({}, {}))):
        assert chart.empty and len(chart.times) == 5
    assert runs_chart(stats({"completed": 1}, step=86_400.0 * 3)).times[0] == "02 Jan"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (9_990_000, "10 MB"), (3.2e12, "3.2 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(int(count)) == text
