"""The only place from which both commands write: foreign text is escaped here, on its way to a terminal or a pipe."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server.observability.terminal import plain_json, plain_text

from .json_form import json_form

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 240


def write(
    text: object = "", *, err: bool = False, end: bool = True, colour: str | None = None, bold: bool = False
) -> None:
    """Write text, with a newline at its end.

    Args:
        text: What is written; escaped for terminals.
        err: to standard error.
        end: whether the newline is written.
        colour: a colour of click's, on a terminal.
        bold: whether it is bold, on a terminal.
    """
    escaped = plain_text(str(text))
    click.secho(escaped, err=err, nl=end, fg=colour, bold=bold or None)


def write_json(value: Any, *, err: bool = False, indent: int | None = 2) -> None:
    """Write a value as JSON, in the form of `json_form`; without `indent` in one line."""
    click.echo(plain_json(json.dumps(json_form(value), indent=indent, ensure_ascii=False)), err=err)


def table(*head: str) -> "Table":
    """A table with these columns. What does not fit goes on in the next line: an id that is cut off is of no use."""
    from rich.table import Column, Table

    return Table(*(Column(name, overflow="fold") for name in head), box=None, pad_edge=False, header_style="bold")


def console(*, err: bool = False) -> "Console":
    """A console for tables: as wide as the terminal, or wide enough for whole lines in a pipe. It escapes what it is given.

    Args:
        err: for standard error.
    """
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    class EscapingConsole(Console):
        def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(plain_text(segment.text), segment.style)

    wide = EscapingConsole(highlight=False, markup=False, soft_wrap=False, stderr=err)
    # In a pipe there is no width to fit into, and an id that is cut off is of no use.
    return wide if wide.is_terminal else EscapingConsole(highlight=False, markup=False, width=PIPE_WIDTH, stderr=err)
