"""`flowcraft completion`, and what the shell is offered for ids: those of the deployment, if it answers at once."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from flowcraft_server.observability.terminal import plain_text

from .shared_options import given
from .terminal import write

if TYPE_CHECKING:
    from flowcraft_sdk import Client

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "flowcraft", "_FLOWCRAFT_COMPLETE"

MOST_OFFERED = 50
LONGEST_HELP = 100
"""Characters of what is shown beside an id."""

_READ_OTHERWISE = re.compile(r"[^\w@%+=:,./~-]|^~")
"""What bash does not take as it is written in a word."""

KEY_PRESS_TIMEOUT = 0.7
"""Seconds that a key press may wait for Redis; then no id is offered."""


class _Bash(BashComplete):
    """bash puts words into the command line as they come: what it would read otherwise, such as `$(...)` in an id, is escaped."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """See the base class. The script reads backslashes once before bash does."""
        if item.type != "plain":
            return super().format_completion(item)
        return f"{item.type},{_READ_OTHERWISE.sub(_escaped_twice, item.value)}"


def _escaped_twice(found: re.Match[str]) -> str:
    return f"\\{found[0]}".replace("\\", "\\\\")


class _Zsh(ZshComplete):
    """zsh escapes words itself, and is given each with a help of one line: a further line would be taken for a word."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """See the base class."""
        return super().format_completion(_with_short_help(item))


class _Fish(FishComplete):
    """fish escapes words itself, and reads each up to its first comma."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """See the base class."""
        return [item for item in super().get_completions(args, incomplete) if "," not in item.value]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """See the base class."""
        return super().format_completion(_with_short_help(item))


def _with_short_help(item: CompletionItem[Any]) -> CompletionItem[Any]:
    text = plain_text(" ".join((item.help or "").split()), one_line=True)
    return CompletionItem(item.value, item.type, text[:LONGEST_HELP] or None)


for _kind in (_Bash, _Zsh, _Fish):
    add_completion_class(_kind)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which SHELL completes commands, options, and ids of runs, blueprints, schedules and queues.

    Ids are those of the deployment that the words before name, if it answers at once.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    write(kind(_program(), {}, PROGRAM, VARIABLE).source())


def _program() -> click.Command:
    return click.get_current_context().find_root().command


def _runs(client: "Client") -> Iterable[tuple[str, str]]:
    for run in client.list_runs(limit=MOST_OFFERED):
        yield run.run_id, f"{run.blueprint_id}, {run.status}"


def _blueprints(client: "Client") -> Iterable[tuple[str, str]]:
    for blueprint in client.blueprints():
        yield blueprint.id, blueprint.description


def _schedules(client: "Client") -> Iterable[tuple[str, str]]:
    for schedule in client.schedules.list():
        yield schedule.id, schedule.blueprint_id


def _queues(client: "Client") -> Iterable[tuple[str, str]]:
    for queue in client.admin.queues():
        yield queue.name, f"{queue.ready} ready"


Offer = Callable[["Client"], Iterable[tuple[str, str]]]
_BY_METAVAR: dict[str, Offer] = {"RUN": _runs, "BLUEPRINT": _blueprints, "SCHEDULE": _schedules, "QUEUE": _queues}


def complete_ids(group: click.Group) -> None:
    """Have all arguments and options of a group's commands that are ids be completed."""
    for command in group.commands.values():
        for param in command.params:
            offer = _BY_METAVAR.get((param.metavar or "").strip("[]"))
            if param.name == "blueprint":  # of `start`, and the filter of lists
                offer = _blueprints
            if offer is not None:
                param._custom_shell_complete = _completer(offer)
        if isinstance(command, click.Group):
            complete_ids(command)


def _completer(offer: Offer) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            with _quick_client(ctx) as client:
                # A line break in an id would begin another word; no id that is published has one, but Redis may be anybody's.
                names = ((name, about) for name, about in offer(client) if name.isprintable())
                found = [(name, about) for name, about in names if name.startswith(incomplete)]
        except Exception:  # whatever is wrong: a shell that waits for a word is no place to say so
            return []
        return [CompletionItem(name, help=about or None) for name, about in found[:MOST_OFFERED]]

    return complete


def _quick_client(ctx: click.Context) -> Any:
    """A client of the deployment that gives up at once."""
    from flowcraft_sdk import Client, ClientSettings

    from .client_input import SERVER_VARIABLE, nearest_config

    settings = ClientSettings(socket_timeout=KEY_PRESS_TIMEOUT, connect_timeout=KEY_PRESS_TIMEOUT, retries=0)
    url, config = given(ctx, "url"), given(ctx, "config")
    if given(ctx, "server") is not None or os.environ.get(SERVER_VARIABLE):
        raise click.UsageError("ids are completed through Redis alone")
    if url is not None:
        return Client(url, namespace=given(ctx, "namespace"), settings=settings)
    file = Path(config) if config is not None else nearest_config()
    if file is None and not os.environ.get("FLOWCRAFT_REDIS_URL"):
        raise click.UsageError("nothing names a deployment")
    if file is None:
        return Client(settings=settings)
    return Client.from_config(file, profile=given(ctx, "profile"), settings=settings)
