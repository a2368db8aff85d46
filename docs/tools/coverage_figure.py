"""Draws what `make coverage` measured, by package, in docs/coverage.svg: `python docs/tools/coverage_figure.py REPORT.json`."""

import json
import sys
from collections import defaultdict
from html import escape
from pathlib import Path

FIGURE = Path(__file__).parents[1] / "coverage.svg"
ROW, LEFT, WIDTH, HEAD = 24, 250, 400, 60


def shares(files: dict[str, dict[str, dict[str, int]]]) -> dict[str, float]:
    """Percent of the lines and branches that were executed, by package."""
    done: dict[str, int] = defaultdict(int)
    there: dict[str, int] = defaultdict(int)
    for name, each in files.items():
        parts = name.partition("flowcraft_")[1] + name.partition("flowcraft_")[2]
        package = ".".join(parts.split("/")[:2]) if parts.count("/") > 1 else parts.split("/")[0]
        summary = each["summary"]
        done[package] += summary["covered_lines"] + summary["covered_branches"]
        there[package] += summary["num_statements"] + summary["num_branches"]
    return {package: 100 * done[package] / there[package] for package in sorted(there) if there[package]}


def draw(packages: dict[str, float], total: float) -> str:
    """The figure as SVG."""
    height = HEAD + ROW * len(packages) + 12
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 80} {height}" width="{LEFT + WIDTH + 80}" '
            f'font-family="sans-serif" font-size="13" fill="#0f172a">'
        ),
        '<rect width="100%" height="100%" rx="8" fill="#f8fafc"/>',
        f'<text x="16" y="26" font-size="16" font-weight="bold">Coverage {total:.0f} %</text>',
        '<text x="16" y="46" fill="#475569">lines and branches that the unit, engine and acceptance tests execute</text>',
    ]
    for index, (package, share) in enumerate(packages.items()):
        top = HEAD + index * ROW
        lines += [
            f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{escape(package)}</text>',
            f'<rect x="{LEFT}" y="{top + 3}" width="{WIDTH}" height="{ROW - 8}" rx="3" fill="#e2e8f0"/>',
            f'<rect x="{LEFT}" y="{top + 3}" width="{WIDTH * share / 100:.0f}" height="{ROW - 8}" rx="3" fill="#0d9488"/>',
            f'<text x="{LEFT + WIDTH + 10}" y="{top + 15}">{share:.0f} %</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    """Draw the report that is named."""
    report = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    FIGURE.write_text(draw(shares(report["files"]), report["totals"]["percent_covered"]), "utf-8")
    sys.stdout.write(f"docs/{FIGURE.name}: {report['totals']['percent_covered']:.1f} %\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
