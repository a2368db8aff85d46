"""`flowcraft signal` and `send`: the answer to a node that waits, and a message to one that runs."""

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


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("node_id", metavar="NODE")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the message, an object.")
@click.option("-f", "--file", type=InputFileType(), help="The message as JSON; - is standard input.")
@click.option(
    "--id", "message_id", metavar="ID", help="Id of the message; sent again with the same id, it does nothing."
)
@as_json_option
@click.pass_obj
def send(
    connect: Callable[[], "Client"],
    run_id: str,
    node_id: str,
    pairs: tuple[str, ...],
    file: InputFile | None,
    message_id: str | None,
    as_json: bool,
) -> None:
    """Send a message to NODE of RUN, whose handler takes it with `ctx.receive`; in a subflow it is `subflow/NODE`.

    Without -i and -f the message is null.
    """
    path = connect().get_handle(run_id).send(node_id, _payload(pairs, file), message_id=message_id)
    if as_json:
        write_json({"run_id": run_id, "node_id": path})
    else:
        write(path)


def _payload(pairs: tuple[str, ...], file: InputFile | None) -> Any:
    if pairs:
        return start_context(pairs, file, "a payload that -i adds to")
    return None if file is None else read_json(file)
