"""`flowcraft logs`: what handlers of a run have logged."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from .client_input import DurationParam
from .client_output import log_line
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, LogLine


DEEPEST = 20
"""Levels of child runs whose lines are printed."""


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--node", "node_id", metavar="NODE", help="Only lines of this node, or of this item or round of it.")
@click.option("--follow", "-f", is_flag=True, help="Wait for new lines until the run has ended; without child runs.")
@click.option("--timeout", type=DurationParam(), metavar="SPAN", help="Follow no longer than this.")
@as_json_option
@click.pass_obj
def logs(
    connect: Callable[[], "Client"],
    run_id: str,
    node_id: str | None,
    follow: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print what handlers of RUN and of its child runs have logged; with --json an object a line.

    Kept is what `logging.capture` in flowcraft.yaml says.
    """
    if timeout is not None and not follow:
        raise click.UsageError("--timeout goes with --follow")
    client = connect()
    found: Iterator[tuple[str, LogLine]]
    if follow:
        found = ((run_id, line) for line in client.get_handle(run_id).logs(node_id, follow=True, timeout=timeout))
    else:
        found = iter(sorted(_kept(client, run_id, node_id), key=lambda entry: entry[1].at))
    for of, line in found:
        if as_json:
            write_json({"run_id": of, **line.model_dump()}, indent=None)
        else:
            if line.missing:
                write(f"({line.missing:,} earlier lines are not kept any more)", err=True)
            write(log_line(line) + (f"  [{of}]" if of != run_id else ""))
            if line.traceback:
                write("    " + line.traceback.rstrip().replace("\n", "\n    "))


def _kept(client: "Client", run_id: str, node_id: str | None) -> list[tuple[str, "LogLine"]]:
    """The lines of a run and of those below it.

    Raises:
        NodeNotFoundError: none of these runs has the node.
    """
    from flowcraft_sdk import NodeNotFoundError, RunNotFoundError

    lines: list[tuple[str, LogLine]] = []
    unknown: NodeNotFoundError | None = None
    is_known = False
    level = [run_id]
    for _ in range(DEEPEST + 1):
        below: list[str] = []
        for each in level:
            handle = client.get_handle(each)
            try:
                lines += [(each, line) for line in handle.logs(node_id)]
                is_known = True
            except NodeNotFoundError as error:
                unknown = unknown or error
            except RunNotFoundError:
                if each == run_id:
                    raise
                continue  # removed meanwhile
            try:
                below += handle.describe().children
            except RunNotFoundError:
                if each == run_id:
                    raise
        level = below
    if unknown is not None and not is_known:
        _, meant, name = str(unknown).partition("; did you mean ")
        raise NodeNotFoundError(f"run {run_id} has no node '{node_id}', nor has a run below it{meant}{name}")
    return lines
