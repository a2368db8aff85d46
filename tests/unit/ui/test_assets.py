"""What a page loads stays small, comes from us alone, and has nothing that the policy would refuse."""

import re
from importlib.resources import files

from flowcraft_server.ui.assets import assets, without_comments, without_spaces

BUDGET = 60_000
"""Bytes of script and style that a page loads, before compression."""


def loaded_by(name: str, known: dict[str, str]) -> set[str]:
    """A script and what it imports at once; what it imports when a page needs it is left out."""
    found = {name}
    for imported in re.findall(r'^import .* from "\./([\w.]+)";$', known[name], re.MULTILINE):
        found |= loaded_by(imported, known)
    return found


def test_script_and_style_of_each_page_keep_to_the_budget() -> None:
    known = {name: data.decode() for name, (data, _) in assets().content.items()}
    every_page = {"app.css", "theme.js"} | loaded_by("app.js", known)
    on_demand = re.findall(r'import\("\./([\w.]+)"\)', known["app.js"])
    pages = [every_page | loaded_by(name, known) for name in on_demand]  # a page has a graph, or events, or a timeline
    assert set().union(*pages) == {name for name in known if name.endswith((".js", ".css"))}, "each script is loaded"
    for page in pages:
        sizes = {name: len(known[name].encode()) for name in page}
        assert sum(sizes.values()) <= BUDGET, sizes


def test_comments_are_left_out_of_what_is_sent_and_code_is_not() -> None:
    source = b"// one\n/**\n * two // three\n */\n  const a = 1; // four\n\n  /** @type {X} */ (b).c();\n/* five */\n.d { } /* six */\n"
    assert without_comments(source) == b"const a = 1; // four\n(b).c();\n.d { } /* six */\n"
    for file in files("flowcraft_server.ui").joinpath("static").iterdir():
        for line in file.read_text("utf-8").splitlines():
            assert not file.name.endswith(".js") or line.count("`") % 2 == 0, f"{file.name}: a text over lines: {line}"


def test_spaces_for_readers_are_left_out_of_style() -> None:
    source = b'a :focus, .b > c { margin: 0 1px; content: "x: { y, z }"; }\n@media (width < 9px) { a { top: calc(1px + 2px); } }\n'
    assert without_spaces(source) == (
        b'a :focus,.b > c{margin:0 1px;content:"x: { y, z }";}\n@media (width < 9px){a{top:calc(1px + 2px);}}\n'
    )


def test_nothing_comes_from_elsewhere() -> None:
    texts = {name: data.decode() for name, (data, _) in assets().content.items()}
    texts |= {
        file.name: file.read_text("utf-8") for file in files("flowcraft_server.ui").joinpath("templates").iterdir()
    }
    for name, text in texts.items():
        hosts = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]+", text)) - {"http://www.w3.org"}
        assert not hosts, (name, hosts)


def test_templates_have_no_inline_script_or_style_and_escape_everything() -> None:
    for file in files("flowcraft_server.ui").joinpath("templates").iterdir():
        text = file.read_text("utf-8")
        assert not re.search(r"\son[a-z]+=|\sstyle=|<style|javascript:|\|\s*safe\b|autoescape", text), file.name
        assert not re.search(r"<script(?! (type=\"module\" )?src=)", text), file.name
        assert not re.search(r"tojson(?! \| forceescape)", text), (
            f"{file.name}: JSON in an attribute needs its quotes escaped"
        )


def test_icons_that_are_named_exist() -> None:
    known = set(re.findall(r'id="([\w-]+)"', assets().content["icons.svg"][0].decode()))
    for file in files("flowcraft_server.ui").joinpath("templates").iterdir():
        named = set(re.findall(r"(?:icon|empty)\('([\w-]+)'", file.read_text("utf-8")))
        assert named <= known, file.name
