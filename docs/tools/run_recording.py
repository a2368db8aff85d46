"""Records `flowcraft watch` of a run on the real engine, as an animated SVG: `python docs/tools/run_recording.py docs/watch.svg`.

A row of the picture that does not change is one element, shown for as long as it stays; no script runs in the file.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.segment import Segment

from flowcraft_sdk import NodeContext
from flowcraft_server.cli.run_tree_view import WatchedRuns, tree_of
from flowcraft_server.testing import TestEnvironment

WIDTH, LINE, LETTER = 84, 19, 8.0
PAUSE = 0.2
"""Seconds between two pictures."""

REST = 2.5
"""Seconds for which the last one stays."""

BLUEPRINTS = {
    "research": """
nodes:
  plan: {uses: think, params: {seconds: 1.2, text: four questions}}
  search: {uses: map, inputs: plan, params: {uses: look-up}, needs: [plan]}
  read: {uses: flaky, needs: [search], config: {maxRetries: 3, retryDelay: 500ms}}
  write: {call: report, inputs: {notes: read}, needs: [read]}
  publish: {uses: think, params: {seconds: 0.7, text: sent}, needs: [write]}
""",
    "report": """
nodes:
  draft: {uses: draft}
  review: {uses: think, params: {seconds: 0.9, text: approved}, needs: [draft]}
""",
}
COLOURS = {
    "cyan": "#4cc2d6", "green": "#63c174", "red": "#f2777a", "yellow": "#e6b450", "magenta": "#c594e0", "default": "#d9dee6",
}  # fmt: skip


def think(ctx: NodeContext) -> Any:
    """A call of a model."""
    ctx.progress(None, ctx.params["text"])
    time.sleep(ctx.params["seconds"])
    return ["prices", "rules", "rivals", "risks", "dates", "names"]


def look_up(ctx: NodeContext) -> str:
    """A search, for an item of a batch."""
    ctx.progress(None, f"looking up {ctx.input}")
    time.sleep(0.7 + 0.25 * (ctx.item or 0) % 1.1)
    return f"notes on {ctx.input}"


def flaky(ctx: NodeContext) -> str:
    """Fails at the first attempt."""
    time.sleep(0.7)
    if ctx.attempt == 1:
        raise ConnectionError("the model is overloaded")
    return "notes"


def draft(ctx: NodeContext) -> str:
    """Reports how far it is."""
    for step in range(1, 11):
        ctx.progress(step / 10, "writing")
        time.sleep(0.17)
    return "text"


HANDLERS: dict[str, Callable[..., Any]] = {"think": think, "look-up": look_up, "flaky": flaky, "draft": draft}


@dataclass
class Row:
    """What stands in a line of the picture from one moment to another, in seconds."""

    number: int
    markup: str
    since: float
    until: float


def pictures() -> list[tuple[float, list[str]]]:
    """The lines of each picture, as SVG, with the seconds since the first one."""
    console = Console(width=WIDTH, force_terminal=True, color_system="standard", file=sys.stderr)
    found: list[tuple[float, list[str]]] = []
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS) as env:
        handle = env.client.start("research", run_id="agents-in-2026")
        watched, seen, begin = WatchedRuns(handle.run_id), 0, time.monotonic()
        while True:
            ended = handle.done()
            for event in handle.events(follow=False, after=str(seen)):
                watched.note(event)
                seen = int(event.id)
            watched.runs = {handle.run_id: handle.describe()}
            for child in watched.runs[handle.run_id].children:
                watched.runs[child] = env.client.get_handle(child).describe()
            lines = console.render_lines(tree_of(watched, datetime.now(UTC)), pad=False)
            found.append((time.monotonic() - begin, [_markup(line) for line in lines]))
            if ended:
                return found
            time.sleep(PAUSE)


def _markup(line: list[Segment]) -> str:
    """A line as spans, each at the place of its first letter: so no font makes it longer."""
    parts, column = [], 0
    for segment in line:
        if segment.text.strip():
            style = segment.style
            colour = style.color.name if style and style.color else "default"
            looks = f'fill="{COLOURS[colour]}"' + (' font-weight="600"' if style and style.bold else "")
            looks += ' opacity=".62"' if style and style.dim else ""
            parts.append(f'<tspan x="{20 + column * LETTER:g}" {looks}>{escape(segment.text)}</tspan>')
        column += segment.cell_length
    return "".join(parts)


def rows_of(shown: list[tuple[float, list[str]]], end: float) -> list[Row]:
    """The rows of all pictures, each for as long as it stays as it is."""
    rows: list[Row] = []
    last: dict[int, Row] = {}
    for at, lines in shown:
        for number in set(last) - set(range(len(lines))):
            last.pop(number).until = at
        for number, markup in enumerate(lines):
            before = last.get(number)
            if before is not None and before.markup == markup:
                continue
            if before is not None:
                before.until = at
            last[number] = Row(number, markup, at, end)
            rows.append(last[number])
    return rows


def drawing(shown: list[tuple[float, list[str]]]) -> str:
    """The animated SVG."""
    end = shown[-1][0] + REST
    height = 64 + LINE * (max(len(lines) for _, lines in shown) + 1)
    rows, styles, texts = rows_of(shown, end), [], []
    for index, row in enumerate(rows):
        whole = row.since <= shown[0][0] and row.until >= end
        if not whole:
            since, until = 100 * row.since / end, 100 * row.until / end
            steps = (
                "" if row.since <= shown[0][0] else f"0%{{visibility:hidden}}{since:.2f}%{{visibility:visible}}"
            ) + ("" if row.until >= end else f"{until:.2f}%,100%{{visibility:hidden}}")
            styles.append(f"@keyframes r{index}{{{steps}}}#r{index}{{animation:r{index} {end:.2f}s step-end infinite}}")
        if row.until < end:
            styles.append(f"@media (prefers-reduced-motion){{#r{index}{{visibility:hidden}}}}")
        texts.append(f'<text id="r{index}" y="{78 + LINE * row.number}">{row.markup}</text>')
    width = round(40 + WIDTH * LETTER)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        "<title>flowcraft watch: the nodes of a run with their states, a batch with its items, a retry and a child run</title>"
        "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
        "@media (prefers-reduced-motion){text{animation:none !important}}" + "".join(styles) + "</style>"
        f'<rect width="{width}" height="{height}" rx="10" fill="#171a21"/>'
        '<circle cx="20" cy="18" r="5" fill="#f2777a"/><circle cx="37" cy="18" r="5" fill="#e6b450"/>'
        '<circle cx="54" cy="18" r="5" fill="#63c174"/>'
        '<text x="20" y="54" fill="#d9dee6"><tspan fill="#63c174">$</tspan> flowcraft watch agents-in-2026</text>'
        + "".join(texts)
        + "</svg>\n"
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(drawing(pictures()), "utf-8")
    print(f"{target}: {target.stat().st_size:,} bytes")
