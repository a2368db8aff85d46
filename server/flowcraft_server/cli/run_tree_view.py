"""A run as a tree for a terminal: its nodes with states, times and progress, items of batches, and child runs below them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .client_output import about_node, one_line
from .counts import counted

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from flowcraft_sdk import NodeSnapshot, RunEvent, RunSnapshot

MOST_ITEMS = 6
"""Items of a batch that have rows of their own."""

DEEPEST = 8
"""Levels of child runs that are shown."""

BAR = 12
NAME = 28
INDENT = 4
"""Columns by which a tree moves what is a level further below."""

QUIET = ("completed", "pending", "skipped")
"""States of nodes that share a row where there is no room for one each."""

_MARKS = {
    "pending": ("·", "dim"), "ready": ("○", "dim"), "scheduled": ("○", "dim"), "queued": ("○", "dim"),
    "running": ("●", "cyan"), "retrying": ("↻", "magenta"), "waiting": ("◔", "yellow"), "cancelling": ("●", "yellow"),
    "completed": ("✓", "green"), "failed": ("✗", "red"), "timed_out": ("✗", "red"), "cancelled": ("■", "yellow"),
    "skipped": ("–", "dim"),
}  # fmt: skip


@dataclass
class Items:
    """What became of the items of a batch that have ended.

    Attributes:
        done: instances that have completed.
        failed: instances that have failed for good.
    """

    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


class WatchedRuns:
    """A run and the runs below it, as they were read last.

    Args:
        top: id of the run at the top.
    """

    def __init__(self, top: str) -> None:
        self.top = top
        self.runs: dict[str, RunSnapshot] = {}
        self._items: dict[tuple[str, str], Items] = {}

    def note(self, event: "RunEvent") -> None:
        """Count an item that has ended: snapshots have those alone that have not."""
        owner, bracket, _ = (event.node_id or "").partition("[")
        if not bracket or event.type not in ("node_completed", "node_failed"):
            return
        items = self._items.setdefault((event.run_id, owner), Items())
        (items.done if event.type == "node_completed" else items.failed).add(str(event.node_id))

    def items_of(self, run_id: str, node_id: str) -> Items:
        """The ended items of a node."""
        return self._items.get((run_id, node_id), Items())


def tree_of(watched: WatchedRuns, now: datetime, most_rows: int = 1000) -> "Tree":
    """The tree of a run.

    Args:
        watched: the runs, as they were read last.
        now: what times of nodes that have not ended are counted up to.
        most_rows: how many rows there is room for; with more, nodes in which nothing happens share rows.
    """
    from rich.tree import Tree

    run = watched.runs[watched.top]
    tree = Tree(_run_line(run, now), guide_style="dim")
    folded = sum(len(each.nodes) + 1 for each in watched.runs.values()) > most_rows
    _add_nodes(tree, watched, run, now, folded, 0)
    return tree


def _add_nodes(tree: "Tree", watched: WatchedRuns, run: "RunSnapshot", now: datetime, folded: bool, level: int) -> None:
    from rich.text import Text

    open_items: dict[str, list[str]] = {}
    for instance in run.nodes:
        owner, bracket, _ = instance.partition("[")
        if bracket:
            open_items.setdefault(owner, []).append(instance)
    quiet: dict[str, int] = {}
    for node_id, node in run.nodes.items():
        if "[" in node_id:
            continue
        child = watched.runs.get(node.child_run_id or "")
        if folded and str(node.status) in QUIET and child is None:
            quiet[str(node.status)] = quiet.get(str(node.status), 0) + 1
            continue
        row = tree.add(
            _node_line(node_id, node, now, _bar(watched, run.run_id, node_id, open_items.get(node_id, ())), level)
        )
        for shown in _rows_of_items(run.nodes, open_items.get(node_id, ()), now, level + 1):
            row.add(shown)
        if child is not None and level < 2 * DEEPEST:
            _add_nodes(row.add(_run_line(child, now)), watched, child, now, folded, level + 2)
    if quiet:
        tree.add(Text(", ".join(f"{count} {state}" for state, count in quiet.items()), style="dim"))


def _rows_of_items(
    nodes: "Mapping[str, NodeSnapshot]", instances: Iterable[str], now: datetime, level: int
) -> "Iterator[Text]":
    from rich.text import Text

    busy = [instance for instance in instances if str(nodes[instance].status) not in ("ready", "pending")]
    busy.sort(key=lambda instance: (len(instance), instance))
    for instance in busy[:MOST_ITEMS]:
        yield _node_line(instance.partition("[")[1] + instance.partition("[")[2], nodes[instance], now, "", level)
    if len(busy) > MOST_ITEMS:
        yield Text(f"{len(busy) - MOST_ITEMS} more items are under way", style="dim")


def _bar(watched: WatchedRuns, run_id: str, node_id: str, unfinished: Iterable[str]) -> str:
    """How many items of a batch have ended, `` for any other node."""
    ended = watched.items_of(run_id, node_id)
    done, left = len(ended.done) + len(ended.failed), len(list(unfinished))
    if not done + left:
        return ""
    return f"{_filled(done / (done + left))} {done}/{done + left}" + (
        f", {len(ended.failed)} failed" if ended.failed else ""
    )


def _filled(part: float) -> str:
    return "━" * round(part * BAR) + "╌" * (BAR - round(part * BAR))


def _run_line(run: "RunSnapshot", now: datetime) -> "Text":
    from rich.text import Text

    mark, style = _MARKS.get(str(run.status), ("?", ""))
    parts = [str(run.status).replace("_", " "), f"{run.progress.done}/{counted(run.progress.total, 'node')}"]
    parts += [took] if (took := _took(run.started_at, run.ended_at, now)) else []
    return Text.assemble(
        (mark, style), " ", (run.blueprint_id, "bold"), " ", (run.run_id, "dim"), "  ", (", ".join(parts), style)
    )


def _node_line(name: str, node: "NodeSnapshot", now: datetime, bar: str, level: int) -> "Text":
    from rich.text import Text

    state = str(node.status)
    mark, style = _MARKS.get(state, ("?", ""))
    text = Text.assemble((mark, style), f" {one_line(name):<{max(NAME - INDENT * level, 8)}} ", (f"{state:<10}", style))
    text.append(f"{_took(node.started_at, node.ended_at, now):>9}", style="dim")
    if node.attempts > 1:
        text.append(f"  attempt {node.attempts}", style="magenta")
    if bar:
        text.append(f"  {bar}", style="cyan")
    elif node.progress is not None and state == "running":
        text.append(f"  {_filled(node.progress)} {node.progress:.0%}", style="cyan")
    about = about_node(node) if state not in QUIET and not node.child_run_id and not bar else ""
    if about:
        text.append(f"  {one_line(about)}", style="red" if state == "failed" else "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _took(start: datetime | None, end: datetime | None, now: datetime) -> str:
    return "" if start is None else f"{max(0.0, ((end or now) - start).total_seconds()):.1f} s"
