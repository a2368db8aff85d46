"""`flowcraft memory`: the conversations that agents keep between runs."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flowcraft_server.observability.terminal import plain_text

from .counts import counted
from .shared_options import as_json_option, json_before
from .terminal import console, table, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, Memory, MemoryInfo, MemoryMessage

MOST_SHOWN = 4_000
"""Characters of a message that are shown; with --json all of it is."""


@click.group()
@json_before
def memory() -> None:
    """Memories: the conversations that agents keep between runs (`params.memory`)."""


@memory.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@as_json_option
@click.pass_obj
def list_(connect: Callable[[], "Client"], limit: int, as_json: bool) -> None:
    """List memories, those first that are kept longest."""
    found = connect().admin.memories(limit=limit)
    if as_json:
        write_json(list(found))
    else:
        _print_table(found)


@memory.command()
@click.argument("memory_id", metavar="MEMORY")
@as_json_option
@click.pass_obj
def show(connect: Callable[[], "Client"], memory_id: str, as_json: bool) -> None:
    """Show the conversation in MEMORY."""
    found = connect().admin.memory(memory_id)
    if as_json:
        write_json(found)
    else:
        _print_memory(found)


@memory.command()
@click.argument("memory_id", metavar="MEMORY")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def delete(connect: Callable[[], "Client"], memory_id: str, yes: bool, as_json: bool) -> None:
    """Delete MEMORY. The next run of its agent begins a new one."""
    if not yes:
        if as_json:
            raise click.UsageError("it asks before it deletes; with --json give --yes too")
        click.confirm(f"Delete memory {plain_text(memory_id, one_line=True)}?", abort=True, err=True)
    connect().admin.delete_memory(memory_id)
    if as_json:
        write_json({"deleted": memory_id})
    else:
        write(f"deleted {plain_text(memory_id, one_line=True)}")


def _print_table(found: Iterable["MemoryInfo"]) -> None:
    from rich.text import Text

    shown = table("memory", "turns", "messages", "bytes", "written", "expires")
    for each in found:
        numbers = (f"{each.turns:,}", f"{each.messages:,}", f"{each.bytes:,}")
        name = Text(plain_text(each.id, one_line=True))
        shown.add_row(name, *numbers, _time(each.written_at), _time(each.expires_at))
    console().print(shown)


def _print_memory(found: "Memory") -> None:
    write(
        f"{plain_text(found.id, one_line=True)}: {counted(found.turns, 'turn')}, {counted(found.messages, 'message')}, "
        f"written {_time(found.written_at)}, expires {_time(found.expires_at)}"
    )
    for message in found.conversation:
        write(_line(message))


def _line(message: "MemoryMessage") -> str:
    text = plain_text(message.text[:MOST_SHOWN], one_line=True)
    more = f"... ({len(message.text):,} characters)" if len(message.text) > MOST_SHOWN else ""
    tool = plain_text(message.tool, one_line=True)
    if message.role == "call":
        return f"  call    {tool} {text}{more}"
    return f"  {message.role:7} {f'of {tool}: ' if tool else ''}{text}{more}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
