"""`flowcraft signal`: the answer to a node that waits."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .client_input import InputFile, InputFileType, read_json, start_context
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("node_id", metavar="[NODE]", required=False)
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the payload, an object.")
@click.option("-f", "--file", type=InputFileType(), help="The payload as JSON; - is standard input.")
@click.option("--action", metavar="ACTION", help="The action, one of those that the node offers.")
@click.option("--id", "signal_id", metavar="ID", help="Id of the signal; sent again with the same id, it does nothing.")
@click.option("--buffer", is_flag=True, help="Keep it for a NODE that does not wait yet.")
@as_json_option
@click.pass_obj
def signal(
    connect: Callable[[], "Client"],
    run_id: str,
    node_id: str | None,
    pairs: tuple[str, ...],
    file: InputFile | None,
    action: str | None,
    signal_id: str | None,
    buffer: bool,
    as_json: bool,
) -> None:
    """Answer a waiting node of RUN. NODE may be left out if only one waits; in a subflow it is `subflow/NODE`.

    Without -i and -f the payload is null.
    """
    payload = _payload(pairs, file)
    handle = connect().get_handle(run_id)
    path = handle.signal(node_id, payload, action=action, signal_id=signal_id, buffer=buffer)
    now = handle.status()
    if as_json:
        write_json({"run_id": run_id, "node_id": path, "action": action, "status": now.value})
    else:
        write(now.value)


def _payload(pairs: tuple[str, ...], file: InputFile | None) -> Any:
    if pairs:
        return start_context(pairs, file, "a payload that -i adds to")
    return None if file is None else read_json(file)
