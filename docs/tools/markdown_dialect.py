"""Small differences between the Markdown of repository hosts, which the pages are written in, and that of the site."""

import re
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

NAMED = re.compile(r"```(\w+) ([\w./-]+)$")
BLOCK = re.compile(r"(?:[-*]|\d+\.) |\|")
"""How a list or a table begins. It needs no empty line before it in the repository; the site's Markdown wants one."""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name the file of a block in its title, and set lists and tables apart from the text before them."""
    return "\n".join(_lines(markdown.splitlines())) + "\n"


def _lines(lines: list[str]) -> Iterator[str]:
    fenced, before = False, ""
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
            yield NAMED.sub(r'```\1 title="\2"', line)
        else:
            if (
                not fenced
                and BLOCK.match(line)
                and before.strip()
                and not BLOCK.match(before)
                and before[0] not in " #"
            ):
                yield ""
            yield line
        before = line
