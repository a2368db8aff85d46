"""Shows how runs get on: a table that is drawn anew on a terminal, a line for each step elsewhere."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowcraft_sdk import FlowcraftError, Handle, RunEvent, RunSnapshot, RunStatus

from .agents import AgentRun

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_BUSY = ("running", "waiting", "retrying")
_STYLES = {"completed": "green", "cancelled": "yellow", "cancelling": "yellow", "failed": "red", "running": "cyan"}
_BAR = 12


_SHOWN = {"node_completed", "node_recovered", "node_failed", "node_cancelled", "cancel_requested", "run_ended"}


class Follower(threading.Thread):
    """Follows the events of one run and keeps a picture of it.

    Args:
        run: what it is.
        handle: the run.
        console: where to print a line for each event; None when a table shows it.
        begin: monotonic time that lines count from.
    """

    def __init__(self, run: AgentRun, handle: Handle[Any], console: "Console | None", begin: float) -> None:
        super().__init__(name=f"follow {run.label}", daemon=True)
        self.run_ = run
        self.handle = handle
        self.snapshot: RunSnapshot | None = None
        self.error: FlowcraftError | None = None
        self._console = console
        self._begin = begin

    def run(self) -> None:
        """Follow until the run has ended."""
        try:
            for event in self.handle.events():
                self.snapshot = self.handle.describe()
                if self._console is not None:
                    self._print(event)
            self.snapshot = self.handle.describe(outputs=True)
        except FlowcraftError as error:
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether the run has ended, or cannot be followed any more."""
        return not self.is_alive()

    def _print(self, event: RunEvent) -> None:
        if event.type not in _SHOWN:
            return
        assert self._console is not None
        what = event.type.removeprefix("node_").removeprefix("run_").replace("_", " ")
        data = {**event.data, "error": event.data.get("error", {}).get("message")}
        about = " ".join(str(value) for value in data.values() if value)
        seconds = time.monotonic() - self._begin
        self._console.print(f"{seconds:6.2f} s  {self.run_.label:<27} {event.node_id or 'run':<25} {what} {about}")


def watch(followers: Sequence[Follower], console: "Console", begin: float, seconds: float) -> None:
    """Show the runs until all have ended, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    if not console.is_terminal:
        for follower in followers:
            follower.join(max(0.0, deadline - time.monotonic()))
        return
    from rich.live import Live

    with Live(_table(followers, begin), console=console, auto_refresh=False) as live:
        while not all(follower.ended for follower in followers) and time.monotonic() < deadline:
            time.sleep(0.08)
            live.update(_table(followers, begin), refresh=True)
        live.update(_table(followers, begin), refresh=True)


def _table(followers: Sequence[Follower], begin: float) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("agent", "progress", "status", "now", "time", box=None, pad_edge=False, header_style="bold")
    for follower in followers:
        snapshot = follower.snapshot
        if snapshot is None:
            table.add_row(follower.run_.label, "", "queued", "", "")
            continue
        now = ", ".join(name for name, node in snapshot.nodes.items() if node.status in _BUSY)
        table.add_row(
            follower.run_.label,
            _bar(snapshot.progress.done, snapshot.progress.total),
            Text(snapshot.status, style=_STYLES.get(snapshot.status, "")),
            Text(now, style="dim"),
            f"{_seconds(snapshot, begin):.1f} s",
        )
    return table


def _bar(done: int, total: int) -> str:
    filled = _BAR * done // total if total else 0
    return f"{'━' * filled}{'·' * (_BAR - filled)} {done}/{total}"


def _seconds(snapshot: RunSnapshot, begin: float) -> float:
    if snapshot.ended_at is not None:
        return (snapshot.ended_at - snapshot.created_at).total_seconds()
    return time.monotonic() - begin


def went_as_planned(follower: Follower) -> bool:
    """Whether the run ended the way it was to."""
    status = follower.snapshot.status if follower.snapshot is not None else RunStatus.UNKNOWN
    return follower.ended and follower.error is None and status is follower.run_.ends
