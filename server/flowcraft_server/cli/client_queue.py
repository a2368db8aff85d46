"""`flowcraft queue`: what waits in the queues and for limits, and pausing queues."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .client_output import print_limits, print_queues
from .counts import counted
from .shared_options import as_json_option, json_before
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, QueueInfo


@click.group()
@json_before
def queue() -> None:
    """Queues: what waits in them, and pausing them."""


@queue.command("list")
@as_json_option
@click.pass_obj
def queue_list(connect: Callable[[], "Client"], as_json: bool) -> None:
    """List queues: ready nodes, for how long the oldest has waited, and workers."""
    queues = connect().admin.queues()
    if as_json:
        write_json(list(queues))
    else:
        print_queues(queues)


@queue.command()
@as_json_option
@click.pass_obj
def limits(connect: Callable[[], "Client"], as_json: bool) -> None:
    """List the limits of rate and concurrency, and how many nodes wait for each."""
    found = connect().admin.limits()
    if as_json:
        write_json(list(found))
    else:
        print_limits(found)


@queue.command()
@click.argument("name", metavar="QUEUE")
@as_json_option
@click.pass_obj
def pause(connect: Callable[[], "Client"], name: str, as_json: bool) -> None:
    """Pause QUEUE: nothing of it is claimed until it is resumed.

    What runs already runs to its end. The queue stays paused when servers or Redis are started again.
    """
    admin = connect().admin
    found = admin.pause_queue(name)
    _print_changed(found, "paused", as_json)
    if not found.workers and not found.ready:
        served = ", ".join(each.name for each in admin.queues() if each.workers) or "none"
        write(f"no worker serves queue '{name}' now, and nothing waits in it; queues with workers: {served}", err=True)


@queue.command()
@click.argument("name", metavar="QUEUE")
@as_json_option
@click.pass_obj
def resume(connect: Callable[[], "Client"], name: str, as_json: bool) -> None:
    """Have nodes of QUEUE claimed again."""
    found = connect().admin.resume_queue(name)
    _print_changed(found, "resumed", as_json)


def _print_changed(found: "QueueInfo", what: str, as_json: bool) -> None:
    if as_json:
        write_json(found)
    else:
        write(f"{what} {found.name}: {found.ready} ready, {counted(found.workers, 'worker')}")
