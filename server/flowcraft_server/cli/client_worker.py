"""`flowcraft worker`: the workers that run nodes, and having one stop."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_FAILED
from .client_output import print_workers
from .server_answers import print_answers, waiting_option
from .shared_options import as_json_option, json_before
from .terminal import write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client


@click.group()
@json_before
def worker() -> None:
    """Workers: what runs the nodes."""


@worker.command("list")
@as_json_option
@click.pass_obj
def list_(connect: Callable[[], "Client"], as_json: bool) -> None:
    """List the workers that were seen lately, and what is wrong with the files of their servers."""
    client = connect()
    workers = client.workers()
    if as_json:
        write_json(list(workers))
    else:
        print_workers(workers, client.admin.servers())


@worker.command()
@click.argument("worker_id", metavar="WORKER")
@waiting_option
@as_json_option
@click.pass_obj
def drain(connect: Callable[[], "Client"], worker_id: str, timeout: float, as_json: bool) -> None:
    """Have the process of WORKER take no more work, finish what it runs, and end.

    None takes its place until its server is started again. Where it is the only worker of its server, the server ends.
    Exit code 1 if it has not ended in time; it ends in any case, after `executor.drainTimeout`.
    """
    answers = connect().admin.drain(worker_id, timeout=timeout)
    print_answers(answers, as_json)
    if not all(answer.ok and answer.done for answer in answers):
        raise click.exceptions.Exit(EXIT_FAILED)
