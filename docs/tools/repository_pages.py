"""Files outside of docs/ become pages of the site, below `repository/`, and the links between all pages are led there.

Pages link to README.md, CHANGELOG.md, the Dockerfile and others by their place in the repository, which is right where the
repository is read. The site has no repository beside it: a file that is linked to becomes a page of its own.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ALWAYS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
BELOW = "repository/"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".sh": "sh", ".toml": "toml", ".lua": "lua"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of ALWAYS, and of what they and the documentation link to."""
    pending = [DOCS / page.src_uri for page in files.documentation_pages()] + [ROOT / name for name in ALWAYS]
    added: set[str] = set()
    while pending:
        source = pending.pop()
        if source.is_relative_to(ROOT) and not source.is_relative_to(DOCS):
            name = source.relative_to(ROOT).as_posix()
            if name in added:
                continue
            added.add(name)
            navigation = InclusionLevel.INCLUDED if name in ALWAYS else InclusionLevel.NOT_IN_NAV
            page = File.generated(config, _page_of(name), content=_content(source), inclusion=navigation)
            page.edit_uri = None
            files.append(page)
        if source.suffix == ".md":
            targets = (_target(source, link) for link in LINK.findall(source.read_text("utf-8")))
            pending += [target for target in targets if target is not None and not target.is_relative_to(DOCS)]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/ to the pages that stand for their targets."""
    uri = page.file.src_uri
    source = ROOT / uri.removeprefix(BELOW) if uri.startswith(BELOW) else DOCS / uri
    if source.suffix != ".md" or not source.exists():
        return markdown

    def led(found: re.Match[str]) -> str:
        target = _target(source, found[1])
        if target is None:
            return found[1]
        name = (
            target.relative_to(DOCS).as_posix()
            if target.is_relative_to(DOCS)
            else _page_of(target.relative_to(ROOT).as_posix())
        )
        return posixpath.relpath(name, posixpath.dirname(uri) or ".")

    return LINK.sub(led, markdown)


def _target(source: Path, link: str) -> Path | None:
    """The file that a link of a page leads to; None if there is none, which the build then reports."""
    target = Path(os.path.normpath(source.parent / link))
    return target if target.exists() and target != ROOT and target.is_relative_to(ROOT) else None


def _page_of(name: str) -> str:
    return BELOW + (name if name.endswith(".md") else f"{name}.md")


def _content(source: Path) -> str:
    if source.is_dir():
        return f"# {source.name}\n\n" + "\n".join(_block(path) for path in sorted(source.iterdir()) if path.is_file())
    if source.suffix == ".md":
        return source.read_text("utf-8")
    return f"# {source.name}\n\n{_block(source, titled=False)}"


def _block(source: Path, *, titled: bool = True) -> str:
    language = LANGUAGES.get(source.suffix, "docker" if source.name == "Dockerfile" else "text")
    title = f' title="{source.name}"' if titled else ""
    return f"```{language}{title}\n{source.read_text('utf-8')}```\n"
