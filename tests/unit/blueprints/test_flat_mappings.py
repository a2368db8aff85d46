"""YAML with mappings in braces at the ends of lines: those read without the parser are what the parser makes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk._config import flat_mappings, yaml_reader
from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.yaml_tree import Tree

FLAT = (
    "{source: a, target: b}",
    "{uses: echo}",
    "{a: null, b: True}",
    "{a: b, a: c}",
    "{x: y-1, z: n_2}  ",
    "{a: b}\r",
)
BEGIN = (
    "- ",
    "  - ",
    "k: ",
    "edges:\n  - ",
    "  n: ",
    "- k: ",
    "- - ",
    "a: |\n  - ",
    "a: >\n- ",
    'a: "\n  - ',
    "- &x ",
    "? ",
    "a: !x ",
    "- foo\n  - ",
    "[\n- ",
)
OTHER = (
    "",
    "\n",
    "# c",
    "  more",
    "- *x",
    "- a -> b",
    "k2: 1",
    "<<: {a: b}",
    "...",
    "---",
    '"',
    "]",
    "  : x",
    "\u2028",
    "- !include f",
    "- \ufdd3",
    '- "\\uFDD3"',
)
LINES = st.tuples(st.sampled_from(BEGIN), st.sampled_from(FLAT)).map("".join) | st.sampled_from(OTHER)


def both(text: str) -> list[tuple[Tree | None, list[Diagnostic]]]:
    """What is made of a text, and what the parser alone makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        found = yaml_reader.read_yaml(text, "b.yaml", Includes(None))
        patch.setattr(yaml_reader, "set_apart", lambda text: (text, []))
        return [found, yaml_reader.read_yaml(text, "b.yaml", Includes(None))]


@settings(max_examples=1_500, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6).map("\n".join))
def test_mappings_are_what_the_parser_makes_of_them(text: str) -> None:
    found, parsed = both(text)
    assert found == parsed


@pytest.mark.parametrize("begin", ["- ", "k: ", "k:\n  - "])
@pytest.mark.parametrize("flat", FLAT)
def test_mappings_at_the_ends_of_lines(begin: str, flat: str) -> None:
    found, parsed = both(f"{begin}{flat}\n")
    assert found == parsed


def test_most_mappings_are_set_apart() -> None:
    text = "nodes:\n  a: {uses: echo}\nedges:\n  - {source: a, target: b}\n  - {source: a, target: 1}\n"
    marked, flat = flat_mappings.set_apart(text)
    assert flat == ["uses: echo", "source: a, target: b"]
    assert marked.count(flat_mappings.MARK) == len(flat)


@pytest.mark.parametrize(
    "text", ["a: |\n  - {b: c}\n", "a: b\n  - {c: d}\n", 'a: "\n  - {b: c}\n  "\n', "- {a: b}\n  c\n"]
)
def test_texts_that_look_like_mappings_stay_texts(text: str) -> None:
    found, parsed = both(text)
    assert found == parsed
    assert "\ufdd3" not in repr(found)


def test_one_hundred_levels_are_counted_as_ever() -> None:
    for depth in (98, 99, 100, 101):
        found, parsed = both("- " * depth + "\n" + "  " * depth + "- {a: b}\n")
        assert found == parsed
