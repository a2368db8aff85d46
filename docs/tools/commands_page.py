"""Fills the page of the two commands from the commands themselves: what `--help` prints."""

import re
from collections.abc import Iterator

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from flowcraft_server.cli import client, server

PAGE = "reference/commands.md"
PROGRAMS = {"flowcraft-server": server.main, "flowcraft": client.main}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the help of a program where the page has `<!-- PROGRAM -->`."""
    if page.file.src_uri != PAGE:
        return markdown
    return re.sub(r"<!-- ([\w-]+) -->", lambda found: "\n".join(_help(PROGRAMS[found[1]], found[1])), markdown)


def _help(command: click.Command, name: str, above: click.Context | None = None) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=name.rpartition(" ")[2],
        parent=above,
        **command.context_settings,
        max_content_width=100,
        terminal_width=100,
    )
    yield f"{'#' * (2 + name.count(' '))} {name}\n"
    yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                yield from _help(found, f"{name} {inner}", context)
