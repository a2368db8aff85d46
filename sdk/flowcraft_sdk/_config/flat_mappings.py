"""Mappings in braces that end a line, `- {source: a, target: b}`: read without the parser, which takes many times as long.

The parser gets a text in which one character stands for each of them. Where that is no value of its own, such as in a longer
text, the mapping was none: `yaml_reader` has all of it read by the parser then, and where anything is wrong.
"""

import re
from typing import Any

from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_scalars import WORDS
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Scalar

MARK = "\ufdd3"
"""What stands for a mapping: a code point that Unicode keeps free for such uses."""

# Names begin with a letter: they are no numbers. They are too short to count for more than one value.
_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,200}+"
_FLAT = re.compile(rf"^( *+(?:- |{_NAME}: ))\{{({_NAME}: {_NAME}(?:, {_NAME}: {_NAME})*+)\}}(?= *+\r?$)", re.MULTILINE)
_new: Any = tuple.__new__


def set_apart(text: str) -> tuple[str, list[str]]:
    """The text with marks in place of such mappings, and what stands in each of them."""
    if MARK in text:
        return text, []
    found = _FLAT.findall(text)
    return (_FLAT.sub(rf"\1{MARK}", text) if found else text), [inside for _, inside in found]


def read_flat(inside: str, position: SourcePosition) -> Fields | None:
    """The mapping; None if it has a key twice.

    Args:
        inside: what stands in its braces.
        position: that of the first of them.
    """
    file, line, column = position
    column += 1
    entries: dict[str, Entry] = {}
    parts = inside.split(", ")
    for part in parts:
        key, value = part.split(": ")
        key_position = _new(SourcePosition, (file, line, column))
        value_position = _new(SourcePosition, (file, line, column + len(key) + 2))
        entries[key] = _new(Entry, (key_position, _new(Scalar, (WORDS.get(value, value), value, value_position))))
        column += len(part) + 2
    return Fields(entries, position, 1 + len(entries), 1) if len(entries) == len(parts) else None
