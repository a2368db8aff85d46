"""`flowcraft dlq` and `flowcraft doctor`: dead letters, stuck runs and left-over entries."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_FAILED
from .client_output import print_dead_letters, print_defects
from .counts import counted
from .shared_options import as_json_option, json_before
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client
    from flowcraft_sdk._client.admin import Admin

DEAD_LETTERS_AT_ONCE = 10_000
"""That are listed in one call: the HTTP API gives no more."""


@click.group()
@json_before
def dlq() -> None:
    """Dead letters: nodes that were given up because their worker was lost again and again."""


@dlq.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json_option
@click.pass_obj
def dlq_list(connect: Callable[[], "Client"], limit: int, as_json: bool) -> None:
    """List dead letters, the newest first."""
    dead_letters = connect().admin.dead_letters(limit=limit)
    if as_json:
        write_json(list(dead_letters))
    else:
        print_dead_letters(dead_letters)


@dlq.command()
@click.argument("run_id", metavar="RUN")
@as_json_option
@click.pass_obj
def replay(connect: Callable[[], "Client"], run_id: str, as_json: bool) -> None:
    """Do RUN again as a new run, and delete its dead letters.

    The new run has the blueprint, version and start context of the old one, which stays as it is. Of a child run, the
    outermost parent is done again.
    """
    handle = connect().admin.replay(run_id)
    if as_json:
        write_json({"run_id": handle.run_id, "attached": handle.attached})
    else:
        write(handle.run_id)


@dlq.command()
@click.argument("run_id", metavar="RUN", required=False)
@click.option("--node", metavar="NODE", help="Only the dead letter of this node.")
@click.option("--all", "everything", is_flag=True, help="All dead letters of all runs.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def drop(
    connect: Callable[[], "Client"], run_id: str | None, node: str | None, everything: bool, yes: bool, as_json: bool
) -> None:
    """Delete the dead letters of RUN. The run itself stays as it is."""
    if (run_id is None) is not everything or (everything and node is not None):
        raise click.UsageError("give a RUN, or --all")
    admin = connect().admin
    run_ids, left = ([run_id], False) if run_id is not None else _runs_with_dead_letters(admin)
    if not yes and run_ids:
        if as_json:
            raise click.UsageError("it asks before it deletes; with --json give --yes too")
        every = f"{counted(len(run_ids), 'run')}{' and more' if left else ''}"
        what = f"the dead letters of {every if run_id is None else f'run {run_id}'}"
        click.confirm(f"Drop {what}?", abort=True, err=True)
    dropped = 0
    while run_ids:
        dropped += sum(admin.delete_dead_letters(each, node) for each in run_ids)
        run_ids, left = _runs_with_dead_letters(admin) if left else ([], False)
    if as_json:
        write_json({"dropped": dropped})
    else:
        write(f"dropped {dropped} dead letters")


def _runs_with_dead_letters(admin: "Admin") -> tuple[list[str], bool]:
    """Runs with dead letters, and whether there may be more of them."""
    letters = admin.dead_letters(limit=DEAD_LETTERS_AT_ONCE)
    return list(dict.fromkeys(letter.run_id for letter in letters)), len(letters) == DEAD_LETTERS_AT_ONCE


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--fix", is_flag=True, help="Repair what is safe to repair; a second time changes nothing.")
@as_json_option
@click.pass_obj
def doctor(connect: Callable[[], "Client"], run_id: str | None, fix: bool, as_json: bool) -> None:
    """Look for stuck runs and left-over entries: in RUN, or in all live runs, queues, leases, timers and indexes.

    Exit code 1 if something was found that is not repaired.
    """
    client = connect()
    defects = client.admin.examine(run_id, fix=fix)
    if as_json:
        write_json(list(defects))
    else:
        if not client.workers():
            write("no worker was seen lately: what is ready waits for one", err=True)
        print_defects(defects)
    if not all(defect.fixed for defect in defects):
        raise click.exceptions.Exit(EXIT_FAILED)
