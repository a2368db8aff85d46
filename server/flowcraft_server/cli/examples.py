"""What the help of each command shows: examples, and a line for the list of commands."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click


class Shown(NamedTuple):
    """What the help shows of a command besides its description.

    Attributes:
        examples: whole command lines.
        short: its line in the list of commands; empty: the first sentence of its description.
    """

    examples: tuple[str, ...]
    short: str = ""


def _shown(*examples: str, short: str = "") -> Shown:
    return Shown(examples, short)


FLOWCRAFT: Mapping[str, Shown] = {
    "backup": _shown("backup runs.ndjson", "backup - | zstd > runs.zst", short="Write blueprints, schedules and runs to a file."),
    "blueprint": _shown("blueprint list"),
    "blueprint check": _shown("blueprint check", "blueprint check blueprints/order.yaml --strict"),
    "blueprint diff": _shown("blueprint diff order order.yaml", short="Show what differs between two blueprints."),
    "blueprint list": _shown("blueprint list", "blueprint list --published", short="List blueprints and their versions."),
    "blueprint show": _shown("blueprint show order", "blueprint show order --mermaid", short="Show a blueprint."),
    "cancel": _shown(
        "cancel order-1 --reason 'out of stock'", "cancel --blueprint order --status queued --dry-run", short="Ask runs to stop."
    ),
    "completion": _shown(
        "completion fish > ~/.config/fish/completions/flowcraft.fish", short="Print a script that completes words."
    ),
    "dlq": _shown("dlq list", short="Nodes whose worker was lost again and again."),
    "dlq drop": _shown("dlq drop order-1", "dlq drop --all --yes"),
    "dlq list": _shown("dlq list"),
    "dlq replay": _shown("dlq replay order-1", short="Do a run again, and delete its dead letters."),
    "doctor": _shown("doctor", "doctor order-1 --fix", short="Look for stuck runs and left-over entries."),
    "eval": _shown(
        "eval evals/triage.yaml", "eval evals/triage.yaml --compare before.json --threshold 95%",
        short="Run the cases of a file, and count what passes.",
    ),
    "events": _shown("events order-1", "events order-1 -f --json", short="Print the history of a run."),
    "exec": _shown("exec blueprints/order.yaml -i customer=Ada", short="Run one blueprint on a private server."),
    "init": _shown("init shop --example order", short="Write a project that runs at once."),
    "list": _shown("list --status failed --since 1d", "list --blueprint order --top --json"),
    "logs": _shown("logs order-1", "logs order-1 --node charge -f", short="Print what handlers of a run have logged."),
    "memory": _shown("memory list", short="Conversations that agents keep between runs."),
    "memory delete": _shown("memory delete desk:clerk/ada", "memory delete desk:clerk/ada --yes", short="Delete a conversation."),
    "memory list": _shown("memory list", short="List the conversations that agents keep."),
    "memory show": _shown("memory show desk:clerk/ada", short="Show a conversation."),
    "queue": _shown("queue list"),
    "queue limits": _shown("queue limits", short="List limits, and how many nodes wait for each."),
    "queue list": _shown("queue list", short="List queues and what waits in them."),
    "queue pause": _shown("queue pause gpu", short="Have nothing of a queue claimed."),
    "queue resume": _shown("queue resume gpu", short="Have nodes of a queue claimed again."),
    "rerun": _shown(
        "rerun order-1 --failed", "rerun order-1 --from charge --set amount=12", "rerun --failed --status failed --since 1d",
        short="Do ended runs again as new runs.",
    ),
    "restore": _shown("restore runs.ndjson --dry-run", "restore runs.ndjson", short="Put a backup into this deployment."),
    "result": _shown(
        "result order-1 --timeout 30s", "result order-1 --result-key total", short="Wait for a run and print its result."
    ),
    "rm": _shown("rm order-1", "rm --status completed --until 30d --yes", short="Remove ended runs."),
    "run": _shown("run watch order-1", short="The commands about a run, by this name."),
    "schedule": _shown("schedule list"),
    "schedule delete": _shown("schedule delete nightly", short="Remove a schedule that no file has any more."),
    "schedule list": _shown("schedule list", short="List schedules and their next times."),
    "schedule pause": _shown("schedule pause nightly", short="Have a schedule start nothing."),
    "schedule resume": _shown("schedule resume nightly"),
    "schedule show": _shown("schedule show nightly", short="Show a schedule and its last runs."),
    "schedule trigger": _shown("schedule trigger nightly", short="Start a run of a schedule now."),
    "send": _shown("send order-1 agent -i text='faster, please'", short="Send a message to a node that runs."),
    "show": _shown("show order-1", "show order-1 --attempts"),
    "signal": _shown("signal order-1 approve --action yes -i by=Ada"),
    "start": _shown("start order -i customer=Ada -i n=3 --follow", "start order -f order.json --id order-1 --delay 10m"),
    "status": _shown("status order-1"),
    "stream": _shown("stream order-1 write", short="Print the text that a node streams."),
    "test": _shown("test", "test blueprints/order.yaml -k paid", short="Run the tests of blueprints."),
    "usage": _shown("usage --days 7", "usage --days 30 --by tag", short="Print what model calls have used."),
    "watch": _shown("watch order-1", "watch order-1 --timeout 5m", short="Watch a run until it has ended."),
    "worker": _shown("worker list"),
    "worker drain": _shown("worker drain w1a2b3c", short="Have a worker finish what it runs, and end."),
    "worker list": _shown("worker list", short="List workers, and mistakes in their files."),
}  # fmt: skip

SERVER: Mapping[str, Shown] = {
    "api": _shown("api --bind 127.0.0.1:8088", short="Serve the HTTP API and the web pages only."),
    "capacity": _shown("capacity --runs 20M/day --nodes 30 --payload 4kB --keep 7d", short="Work out what a load needs."),
    "check": _shown("check", "check --offline --strict", short="Check the file and all that it names."),
    "config": _shown("config show", short="The settings that count."),
    "config show": _shown("config show --origin", short="Print the settings that count."),
    "dev": _shown("dev", "dev --redis redis://localhost:6379/0", short="Run everything here, for development."),
    "drain": _shown("drain --this-host", short="Have running servers finish and end."),
    "gc": _shown("gc --dry", short="Remove runs that are past retention, now."),
    "health": _shown("health --this-host", short="Exit 0 if workers and Redis are there."),
    "reload": _shown("reload", "reload --workers", short="Have running servers read their files again."),
    "run": _shown("run --profile production", short="Run for production on an external Redis."),
    "schema": _shown("schema --write", "schema blueprint", short="Print or write JSON Schemas for editors."),
    "worker": _shown("worker --queue gpu --processes 2", short="Run workers only, for scaling out."),
}  # fmt: skip


def commands_of(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands of a group and of the groups in it, by the words behind the program's name."""
    for name, command in group.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{above}{name} ")


def add_examples(program: str, main: click.Group, shown: Mapping[str, Shown]) -> None:
    """Give each command of a program what its help is to show."""
    for path, command in commands_of(main):
        found = shown.get(path)
        if found is None:
            continue
        lines = "\n".join(f"  {program} {example}" for example in found.examples)
        command.epilog = f"\b\n{'Examples' if len(found.examples) > 1 else 'Example'}:\n{lines}"
        command.short_help = found.short or None
