"""`flowcraft backup` and `flowcraft restore`: blueprints, schedules and runs in a file that any version of Redis can take."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_USAGE
from .counts import counted
from .existing_file import ExistingFile
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, RestoredItem

MOST_NAMED = 20
"""Of what is otherwise than in the backup, how much is named."""

KINDS = {"run": "runs", "blueprint": "blueprints", "schedule": "schedules", "memory": "memories"}


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@as_json_option
@click.pass_obj
def backup(connect: Callable[[], "Client"], file: Path, force: bool, as_json: bool) -> None:
    """Write blueprints, schedules, memories and runs to FILE, while servers go on working; - is standard output.

    Runs are in it with their context, results, histories, logs and dead letters. FILE appears when it is whole.
    """
    from flowcraft_sdk import FlowcraftError

    lines = connect().admin.backup()
    if str(file) == "-":
        for line in lines:
            click.echo(line)
        return
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there; give another FILE, or --force to overwrite it")
    counts = Counter[str]()
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        # Contexts and results may be secret: no other user may read them.
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            for line in lines:
                out.write(line + "\n")
                counts[line[2 : line.index('"', 2)]] += 1
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        if isinstance(error, FlowcraftError):  # Redis does not answer
            raise
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
    found = {name: counts[kind] for kind, name in KINDS.items()}
    if as_json:
        write_json({"file": str(file), **found})
    else:
        named = (counted(counts[kind], kind, name) for kind, name in KINDS.items())
        write(f"{file}: {', '.join(named)}", err=True)


@click.command()
@click.argument("file", type=ExistingFile())
@click.option("--dry-run", is_flag=True, help="Only look whether the file can be read.")
@as_json_option
@click.pass_obj
def restore(connect: Callable[[], "Client"], file: Path, dry_run: bool, as_json: bool) -> None:
    """Put the backup in FILE into this deployment. What is there already stays as it is.

    The file is read through first, and nothing is restored if a line of it cannot be. Runs that had not ended are restored as
    cancelled: `flowcraft rerun RUN --failed` continues one from where it was. Schedules are restored paused.
    """
    from flowcraft_sdk.protocol.backup_format import BackupError, entries_of

    items: list[RestoredItem] = []
    outcomes = Counter[tuple[str, str]]()
    try:
        counts = Counter(entry.kind for entry in entries_of(_lines(file)))
        for item in () if dry_run else connect().admin.restore(_lines(file)):
            outcomes[item.kind, item.outcome] += 1
            if (item.detail or item.outcome == "there") and len(items) < MOST_NAMED:
                items.append(item)
    except BackupError as error:
        write(f"{file}:{str(error).removeprefix('line ')}", err=True)
        raise click.exceptions.Exit(EXIT_USAGE) from None
    except UnicodeDecodeError as error:
        write(f"{file}: expected text in UTF-8: {error}", err=True)
        raise click.exceptions.Exit(EXIT_USAGE) from None
    if as_json:
        found = {
            name: {"in_file": counts[kind], **({} if dry_run else _of(outcomes, kind))} for kind, name in KINDS.items()
        }
        write_json({"file": str(file), "dry_run": dry_run, **found})
        return
    for item in items:
        write(f"{item.kind} {item.id}  {item.detail or 'was there, and stays as it is'}")
    for kind, name in KINDS.items():
        done = "" if dry_run else ": {restored} restored, {there} were there".format(**_of(outcomes, kind))
        write(f"{counts[kind]} {name}{done}", err=True)


def _of(outcomes: "Counter[tuple[str, str]]", kind: str) -> dict[str, int]:
    return {outcome: outcomes[kind, outcome] for outcome in ("restored", "there")}


def _lines(file: Path) -> Iterator[str]:
    from flowcraft_sdk.protocol.backup_format import LONGEST_LINE

    with file.open(encoding="utf-8", newline="\n") as lines:
        while line := lines.readline(LONGEST_LINE + 1):  # one that is longer is refused without being read to its end
            yield line
