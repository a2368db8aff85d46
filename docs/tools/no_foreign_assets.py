"""Refuses a site whose pages make a reader's browser load something from another host."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?![^>]*\brel=[\"']?(?:canonical|prev|next)\b)[^>]*?\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|url\([\"']?((?:https?:)?//[^\"')]+)|@import\s+[\"']((?:https?:)?//[^\"']+)",
    re.IGNORECASE,
)


def on_post_build(config: MkDocsConfig) -> None:
    """Look through all pages and style sheets."""
    site = Path(config.site_dir)
    found = [
        f"{path.relative_to(site)}: {next(filter(None, match.groups()))}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in LOADED.finditer(path.read_text("utf-8"))
    ]
    if found:
        raise PluginError("pages of the site load from other hosts:\n" + "\n".join(found[:20]))
