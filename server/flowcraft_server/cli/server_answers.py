"""What server processes have answered: printed for people or as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .client_input import DurationParam
from .shared_options import Decorator
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import ServerAnswer

waiting_option: Decorator = click.option(
    "--timeout",
    type=DurationParam(),
    default=60.0,
    metavar="SPAN",
    help="Wait no longer than this for the answers; by default 60s.",
)


def print_answers(answers: "Sequence[ServerAnswer]", as_json: bool) -> None:
    """Print what each server process did: a line with its name, and what it did below."""
    if as_json:
        write_json(list(answers))
        return
    for answer in answers:
        server = answer.server
        state = "" if answer.done else " (not through with it yet)"
        write(f"{server.command} on {server.deployment}, process {server.pid}{state}", bold=True)
        for line in answer.lines:
            write(f"  {line}", colour=None if answer.ok else "red")
