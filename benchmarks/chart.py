"""Draws benchmarks/results/throughput.json as bars, in throughput.svg beside it: `python -m benchmarks.chart`."""

import statistics
import sys
from collections.abc import Iterator
from html import escape

from benchmarks.report import RESULTS, read

ROW, LEFT, WIDTH, HEAD = 26, 330, 560, 64
COLOURS = {"ours": "#2563eb", "peers": "#94a3b8"}


def rows(report: dict[str, dict[str, list]]) -> list[tuple[str, str, float, float, float]]:
    """(name, whose, median, least, most) of nodes or tasks a second, the fastest first."""
    found = [(name, "ours", [one["nodes_per_s"] for one in each]) for name, each in report["ours"].items()]
    found += [(name, "peers", each) for name, each in report["peers"].items()]
    bars = [(name, whose, statistics.median(rates), min(rates), max(rates)) for name, whose, rates in found]
    return sorted(bars, key=lambda bar: -bar[2])


def bar(index: int, name: str, whose: str, rate: float, least: float, most: float, longest: float) -> Iterator[str]:
    """One bar: its name, its median as a length and a figure, the spread as a line across its end."""
    top = HEAD + index * ROW
    middle = top + ROW / 2 - 2

    def at(value: float) -> float:
        return LEFT + value / longest * WIDTH

    yield f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
    yield f'<rect x="{LEFT}" y="{top + 2}" width="{at(rate) - LEFT:.1f}" height="{ROW - 8}" fill="{COLOURS[whose]}"/>'
    yield f'<path d="M{at(least):.1f} {middle}H{at(most):.1f}" stroke="#0f172a" stroke-width="1.5"/>'
    yield f'<text x="{at(max(most, rate)) + 8:.1f}" y="{middle + 4}">{rate:,.0f}</text>'


def draw(report: dict[str, dict[str, list]], title: str) -> str:
    """The chart as SVG."""
    bars = rows(report)
    longest = max(most for *_, most in bars)
    height = HEAD + len(bars) * ROW + 14
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" '
            'font-family="sans-serif" font-size="13" fill="#0f172a">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
        (
            '<text x="16" y="46" fill="#475569">median; the line is the least to the most of the rounds. '
            "Blue: this server. Grey: peers.</text>"
        ),
    ]
    for index, row in enumerate(bars):
        lines += bar(index, *row, longest)
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    """Draw what `benchmarks.throughput` kept last."""
    report = read("throughput")
    if report is None:
        print("There is nothing to draw: run `python -m benchmarks.throughput` first.")
        return 2
    machine = report["machine"]
    title = f"Nodes or tasks a second, {report['server']}, {machine['processors']} processors"
    path = RESULTS / "throughput.svg"
    path.write_text(draw(report, title))
    print(f"{path.relative_to(RESULTS.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
