"""`flowcraft watch`: a run as a tree that changes as the run does."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .client_errors import EXIT_FAILED, run_goes_on
from .client_input import DurationParam
from .client_output import event_line, print_outcome_line
from .run_tree_view import DEEPEST, WatchedRuns, tree_of
from .shared_options import as_json_option
from .terminal import console, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, RunSnapshot

REDRAW_PAUSE = 0.125
MOST_RUNS = 50
"""Runs that are read for one picture."""


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--timeout", type=DurationParam(), metavar="SPAN", help="Watch no longer than this, such as 30s.")
@as_json_option
@click.pass_obj
def watch(connect: Callable[[], "Client"], run_id: str, timeout: float | None, as_json: bool) -> None:
    """Watch RUN until it has ended: a tree of its nodes with states, times, progress, items and child runs.

    In a pipe it prints a line for each event, with --json an object. The exit code is that of the run: 0 if it completed, else 1.
    """
    client = connect()
    out = console()
    with run_goes_on(run_id):
        if out.is_terminal and not as_json:
            snapshot = _Watch(client, run_id, timeout).show(out)
        else:
            handle = client.get_handle(run_id)
            for event in handle.events(children=True, timeout=timeout):
                if as_json:
                    write_json(event, indent=None)
                else:
                    write(event_line(event) + (f"  [{event.run_id}]" if event.run_id != run_id else ""))
            snapshot = handle.describe()
    if not as_json:
        print_outcome_line(snapshot)
    if str(snapshot.status) != "completed":
        raise click.exceptions.Exit(EXIT_FAILED)


class _Watch:
    """Follows the events of a run in a thread, and draws it whenever there are some."""

    def __init__(self, client: "Client", run_id: str, timeout: float | None) -> None:
        self._client = client
        self._timeout = timeout
        self._watched = WatchedRuns(run_id)
        self._changed = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None

    def show(self, out: Any) -> "RunSnapshot":
        """Draw the run until it has ended; returns how it ended."""
        from rich.live import Live

        self._read()
        watching = threading.Thread(target=self._follow, name="watch", daemon=True)
        watching.start()
        with Live(console=out, auto_refresh=False, transient=False) as live:
            while True:
                over = self._over.wait(REDRAW_PAUSE)
                if self._changed.is_set():
                    self._changed.clear()
                    self._read()
                # The last picture stays on the screen: it may be longer than that.
                rows = 10_000 if over else out.size.height - 1
                live.vertical_overflow = "visible" if over else "ellipsis"
                live.update(tree_of(self._watched, datetime.now(UTC), rows), refresh=True)
                if over:
                    break
        if self._error is not None:
            raise self._error
        return self._watched.runs[self._watched.top]

    def _follow(self) -> None:
        try:
            handle = self._client.get_handle(self._watched.top)
            for event in handle.events(children=True, timeout=self._timeout):
                self._watched.note(event)
                self._changed.set()
        except BaseException as error:
            self._error = error
        finally:
            self._changed.set()
            self._over.set()

    def _read(self) -> None:
        """Read the run and those of its child runs that a node waits for, or has waited for."""
        from flowcraft_sdk import RunNotFoundError

        runs: dict[str, RunSnapshot] = {}
        waiting = [(self._watched.top, 0)]
        while waiting and len(runs) < MOST_RUNS:
            run_id, depth = waiting.pop(0)
            known = self._watched.runs.get(run_id)
            try:
                ended = known is not None and known.status.is_terminal
                runs[run_id] = known if ended and known else self._client.get_handle(run_id).describe()
            except RunNotFoundError:
                if depth == 0:
                    raise
                continue  # removed meanwhile
            children = [node.child_run_id for node in runs[run_id].nodes.values() if node.child_run_id]
            waiting += [(child, depth + 1) for child in children if depth < DEEPEST]
        self._watched.runs = runs
