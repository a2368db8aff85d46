"""JSON texts: members that are read in one go are read as those that are read piece by piece."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.yaml_tree import Tree
from flowcraft_server.blueprints.loading import json_text

TEXTS = st.text(alphabet='ab "\\/\n\u00e9\u2028{}:,\ud83d', max_size=5) | st.sampled_from(["source", "target", "id"])
VALUES = st.recursive(
    TEXTS | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values | TEXTS, max_size=4),
    max_leaves=12,
)
PIECES = (
    "",
    " ",
    ",",
    ":",
    '"',
    "}",
    "]",
    "{",
    "[",
    "\\",
    "\n",
    "// x",
    "\x01",
    '"a":"b",',
    ', "a" : "b" ',
    "é",
    "1",
    "tru",
)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """JSON in any layout, often with something in it that does not belong there."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r\n: ")]))
    ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, 1]))
    text = json.dumps(draw(VALUES), separators=separators, ensure_ascii=ascii_only, indent=indent)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 3)) :]
    return text


def piece_by_piece(text: str) -> tuple[Tree | None, list[Diagnostic]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_MEMBER", re.compile("(?!)"))  # which is found nowhere
        return json_text.read_json(text, "b.json")


@settings(max_examples=1_000, deadline=None)
@given(json_texts())
def test_what_is_read_in_one_go_is_read_as_piece_by_piece(text: str) -> None:
    assert json_text.read_json(text, "b.json") == piece_by_piece(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "b",}',
        '{"a": "b", "a": "c", "d": "e"}',
        '{"a": "b" // c\n}',
        '{"a": "b" "c": "d"}',
        '{"a": "b"]',
        '{"a": "b"',
        '{"a"\r\n:\n"b"\r, "c": "d"}',
        '{"a": "\x01"}',
        '{"a": "\\u12"}',
        '{"a": "\\ud83d", "b": "c"}',
        '{"a": {"b": "c"}, "d": ["e", {"f": "g",}]}',
        '[{"a": "b"},]',
        '[{"a": "b"} // c\n]',
        "{}",
        "{ , }",
    ],
)
def test_members_that_are_almost_plain(text: str) -> None:
    assert json_text.read_json(text, "b.json") == piece_by_piece(text)
