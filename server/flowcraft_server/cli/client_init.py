"""`flowcraft init`: writes a project that runs."""

import os
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from .client_errors import EXIT_USAGE
from .shared_options import as_json_option
from .terminal import write, write_json

EXAMPLES = {
    "minimal": ("hello", ["-i", "name=Ada"]),
    "order": ("order", ["-i", "customer=Ada"]),
    "agent": ("support", ["-i", "mail=The server room is on fire"]),
}
"""The examples by name, each with its blueprint and what a run of it is started with."""

_NAME, _START = "PROJECT_NAME", "START_COMMAND"
_IGNORED = ".flowcraft/\n.env\n__pycache__/\n"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("."), metavar="[DIR]")
@click.option(
    "--example", type=click.Choice([*EXAMPLES]), default="minimal", show_default=True, help="What to begin with."
)
@as_json_option
def init(folder: Path, example: str, as_json: bool) -> None:
    """Write a project into DIR, by default the current folder: settings, handlers, a blueprint with tests.

    It runs at once. Files that are there are never written over: then nothing is written at all.
    """
    blueprint_id, inputs = EXAMPLES[example]
    start = shlex.join(["flowcraft", "start", blueprint_id, *inputs, "--follow"])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-")[:64] or "flowcraft"
    texts = {
        place: text.replace(_NAME, name).replace(_START, start)
        for place, text in (*_texts(example), (Path(".gitignore"), _IGNORED))
    }
    taken = [str(place) for place in texts if os.path.lexists(folder / place)]
    if taken:
        raise click.UsageError(f"{folder}: {', '.join(sorted(taken))}: already there, and nothing was written")
    try:
        for place, text in texts.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            with (folder / place).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise click.UsageError(f"{folder}: cannot be written: {error}") from None
    _check(folder)
    if as_json:
        write_json({"folder": str(folder), "files": [str(place) for place in texts], "start": start})
        return
    write(f"{', '.join(sorted(map(str, texts)))}: written to {folder.resolve()}")
    write("Next:")
    if folder.resolve() != Path.cwd():
        write(f"  cd {shlex.quote(str(folder))}")
    write("  flowcraft test             # the tests in the blueprint")
    write("  flowcraft-server dev       # the server; then, in a second terminal:")
    write(f"  {start}")


def _texts(example: str) -> Iterator[tuple[Path, str]]:
    """The files of an example, each with its place in the project."""
    root = files("flowcraft_server.cli") / "projects"
    yield Path("README.md"), (root / "README.md").read_text("utf-8")
    yield from _below(root / example, Path())


def _below(folder: Traversable, place: Path) -> Iterator[tuple[Path, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _below(entry, place / entry.name)
        elif not entry.name.endswith(".pyc"):
            yield place / entry.name, entry.read_text("utf-8")


def _check(folder: Path) -> None:
    """Look whether the project can be loaded here, and write the schemas for editors.

    Raises:
        click.exceptions.Exit: it cannot, as where another module has the name of the one with the handlers.
    """
    from flowcraft_server.config.load import load_config

    from .diagnostic_output import print_diagnostics
    from .schema_files import write_schemas

    loaded = load_config(folder / "flowcraft.yaml")
    if loaded.errors:
        print_diagnostics(loaded.errors, "text")
        raise click.exceptions.Exit(EXIT_USAGE)
    try:
        write_schemas(loaded)
    except OSError as error:
        write(f"the schemas for editors were not written: {error}", err=True)
