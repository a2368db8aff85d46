"""`flowcraft exec`: runs one blueprint on a private server."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from .client_errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TIMEOUT, EXIT_USAGE
from .client_input import DurationParam, InputFile, InputFileType, nearest_config, start_context, texts_explained
from .client_output import event_line, print_outcome
from .existing_file import ExistingFile
from .private_server import entered, refuse_addresses, server_errors
from .shared_options import as_json_option, given
from .terminal import console, write

if TYPE_CHECKING:
    from flowcraft_sdk import Handle, RunEvent, RunSnapshot
    from flowcraft_server.testing.suite import Suite

_STYLES = {"started": "cyan", "resumed": "cyan", "completed": "green", "recovered": "yellow", "failed": "red",
           "retrying": "magenta", "waiting": "blue", "skipped": "dim", "cancelled": "yellow"}  # fmt: skip
"""Styles of nodes by the event that happened to them last."""

MOST_SHOWN = 40
"""Rows of nodes that come up while a run goes on."""

LOOK_PAUSE = 1.0
"""Seconds between two looks whether the run waits for what nothing can bring."""


@click.command("exec")
@click.argument("file", type=ExistingFile(), metavar="FILE")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A value of the start context.")
@click.option(
    "-f", "--file", "context_file", type=InputFileType(), help="A start context as JSON; - is standard input."
)
@click.option(
    "--handlers", "modules", multiple=True, metavar="MODULE",
    help="A module, or a .py file, whose functions are handlers; may be repeated.",
)  # fmt: skip
@click.option("--timeout", type=DurationParam(), metavar="SPAN", help="Give the run up after this, such as 5m.")
@click.option("--result-key", "key", metavar="KEY", help="Print only this key of the result.")
@click.option("--log-level", default="error", show_default=True, metavar="LEVEL", help="What is logged meanwhile.")
@as_json_option
@click.pass_context
def exec_(
    ctx: click.Context,
    file: Path,
    pairs: tuple[str, ...],
    context_file: InputFile | None,
    modules: tuple[str, ...],
    timeout: float | None,
    key: str | None,
    log_level: str,
    as_json: bool,
) -> None:
    """Run the blueprint in FILE once, on a private server that ends with it, and print the result.

    Handlers, subflows and language models are those of the nearest flowcraft.yaml, if there is one; --handlers adds more. On a
    terminal the nodes are shown while they run.
    """
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.testing.suite import load_suite, with_modules

    from .diagnostic_output import print_diagnostics

    refuse_addresses(ctx, "exec runs")
    context = start_context(pairs, context_file)
    with server_errors():
        suite = load_suite(given(ctx, "config") or nearest_config(), [file], profile=given(ctx, "profile"))
    suite, problems = with_modules(suite, modules)
    if suite.diagnostics or problems:
        print_diagnostics(suite.diagnostics, "text")
        for problem in problems:
            write(problem, err=True)
        raise click.exceptions.Exit(EXIT_USAGE)
    print_diagnostics(suite.warnings, "text")
    configure_logging(log_level, "pretty", secrets=suite.secrets)
    with server_errors(), texts_explained(pairs):
        snapshot = _run(suite, context, timeout)
    print_outcome(snapshot, key, as_json)


def _run(suite: "Suite", context: Mapping[str, Any], timeout: float | None) -> "RunSnapshot":
    """Start a run, wait for its end, and end the server."""
    with entered(suite) as env:
        handle = env.client.start(suite.chosen[0].id, context)
        try:
            return _wait(handle, timeout)
        except KeyboardInterrupt:
            handle.cancel("interrupted", grace=1)
            write("interrupted; the run is cancelled", err=True)
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def _wait(handle: "Handle[Any]", timeout: float | None) -> "RunSnapshot":
    from flowcraft_sdk import WaitTimeoutError
    from flowcraft_sdk.protocol.clock import clock

    until = None if timeout is None else clock() + timeout
    nodes = list(handle.describe().nodes)
    shown: AbstractContextManager[Any] = _LiveNodes(nodes) if sys.stderr.isatty() else nullcontext()
    last: str | None = None
    with shown as live:
        while True:
            left = LOOK_PAUSE if until is None else min(LOOK_PAUSE, until - clock())
            try:
                for event in handle.events(after=last, timeout=max(0.0, left)):
                    last = event.id
                    if live is not None:
                        live.note(event)
                return handle.wait(10)
            except WaitTimeoutError:
                pass
            if until is not None and clock() >= until:
                write("the run took longer than --timeout", err=True)
                raise click.exceptions.Exit(EXIT_TIMEOUT)
            _check_goes_on(handle.describe())


def _check_goes_on(snapshot: "RunSnapshot") -> None:
    """Give up a run that waits for nothing but answers, which nothing can bring here."""
    if str(snapshot.status) != "waiting":
        return
    points = [point for point in snapshot.waiting if point.kind != "subflow"]
    if points and all(point.kind in ("signal", "webhook") and point.expires_at is None for point in points):
        names = ", ".join(f"'{point.node_id}'" for point in points)
        write(
            f"{names} waits for an answer, which only a run on a server can be given: `flowcraft-server dev`", err=True
        )
        raise click.exceptions.Exit(EXIT_FAILED)


class _LiveNodes:
    """The nodes of a run with their states, redrawn as they change."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._states: dict[str, tuple[str, str]] = dict.fromkeys(nodes, ("pending", ""))

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(self._drawn(), console=console(err=True), refresh_per_second=10)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(self._drawn())
        self._live.__exit__(kind, error, trace)

    def note(self, event: "RunEvent") -> None:
        """Take note of what has happened to a node."""
        state = event.type.removeprefix("node_")
        if event.node_id is None or state not in (*_STYLES, "progress"):
            return
        if event.node_id not in self._states and len(self._states) >= MOST_SHOWN:
            return  # items of a batch and rounds of loops have rows as long as there is room
        before = self._states.get(event.node_id, ("started", ""))[0]
        about = event_line(event).partition(event.type.removeprefix("node_"))[2].strip()
        self._states[event.node_id] = (before if state == "progress" else state, about)
        self._live.update(self._drawn())

    def _drawn(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False)
        for node, (state, about) in self._states.items():
            table.add_row(Text(node), Text(state, style=_STYLES.get(state, "dim")), Text(about, style="dim"))
        return table
