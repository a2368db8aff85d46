"""`flowcraft stream`: the text that a node streams."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .client_input import DurationParam
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, StreamItem


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("node_id", metavar="NODE")
@click.option("--part", metavar="NAME", help="Only this one of several texts.")
@click.option("--timeout", type=DurationParam(), metavar="SPAN", help="Follow no longer than this.")
@as_json_option
@click.pass_obj
def stream(
    connect: Callable[[], "Client"], run_id: str, node_id: str, part: str | None, timeout: float | None, as_json: bool
) -> None:
    """Print the text that NODE of RUN streams, as it comes, until the node has ended; with --json an object for each item.

    The exit code is 0 if the node has completed, else 1.
    """
    from flowcraft_sdk import StreamEnded

    ended: StreamItem | None = None
    at_start = True
    for ended in connect().get_handle(run_id).stream(node_id, timeout=timeout):
        if as_json:
            write_json({"type": type(ended).__name__.removeprefix("Stream").lower(), **ended.model_dump()}, indent=None)
        else:
            at_start = _print(ended, part, at_start)
    if isinstance(ended, StreamEnded) and ended.status != "completed":
        if not as_json:
            began = ended.status in ("failed", "cancelled", "skipped")
            how = f"has ended: {ended.status}" if began else "never began: the run has ended"
            write(f"node '{node_id}' of run {run_id} {how}", err=True)
        raise SystemExit(1)


def _print(item: "StreamItem", part: str | None, at_start: bool) -> bool:
    """Print an item; returns whether the next one begins a line."""
    from flowcraft_sdk import StreamEnded, StreamGap, StreamStarted, StreamText

    if isinstance(item, StreamText):
        if part is not None and item.part != part:
            return at_start
        write(item.text, end=False)
        return item.text.endswith("\n")
    if not at_start:
        write("")
    if isinstance(item, StreamStarted) and item.attempt > 1:
        write(f"(attempt {item.attempt})", err=True)
    elif isinstance(item, StreamGap):
        write("(text is missing here: it is not kept any more)", err=True)
    assert isinstance(item, StreamEnded | StreamGap | StreamStarted)
    return True
