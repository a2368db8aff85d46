"""JSON text as a tree of values with their places."""

import json
import re
from collections.abc import Collection
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_scalars import number
from flowcraft_sdk._config.yaml_tree import DEEPEST, Entry, Fields, Items, Scalar, Tree, make_fields, make_items

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]+|\\.)*')
_PLAIN = r'"([^"\\\x00-\x1f\ud800-\udfff]*)"'
_BLANK = r"[ \t\n\r]*"
_MEMBER = re.compile(rf"{_BLANK}{_PLAIN}{_BLANK}:{_BLANK}{_PLAIN}{_BLANK}(?:(,)(?!{_BLANK}\}})|\}})")
"""A text without escapes under such a key, as most are, up to what is behind it. Anything else is read piece by piece."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"true": True, "false": False, "null": None}
_SPACE = re.compile(_BLANK)
_COLON = re.compile(rf"{_BLANK}:{_BLANK}")
_SEPARATOR = re.compile(rf"{_BLANK}([,\]}}]){_BLANK}")
_STRUCTURE = frozenset('{}[]",:')
_scan = json.JSONDecoder().raw_decode
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Stop(Exception):
    """The text is no JSON from here on."""


def read_json(text: str, file: str) -> tuple[Tree | None, list[Diagnostic]]:
    """Read one JSON value.

    Returns:
        The value, None if the text cannot be read, and what is wrong with it.
    """
    scanner = _Scanner(text, file)
    try:
        return scanner.document(), scanner.diagnostics
    except _Stop:
        return None, scanner.diagnostics


class JsonOutline:
    """A JSON mapping that is known to be valid, of which two keys hold most: where these begin, and the rest as a tree.

    Args:
        large: the keys whose values are read item by item, when one of them is asked for.

    Attributes:
        top: the mapping; an empty list stands at each of the large keys.
    """

    def __init__(self, text: str, file: str, large: Collection[str]) -> None:
        self._text = text
        self._scanner = _Scanner(text, file)
        self._begin: dict[str, int] = {}
        self._items: dict[str, list[int]] = {}
        self.top = self._scanner.outline(large, self._begin)

    def item(self, key: str, index: int) -> tuple[SourcePosition | None, Tree] | None:
        """What stands at a place of a large list or mapping, and in a mapping where its key stands; None if there is none."""
        if key not in self._items:
            begin = self._begin.get(key)
            self._items[key] = _items_from(self._text, begin) if begin is not None else []
        places = self._items[key]
        if index >= len(places):
            return None
        return self._scanner.item(places[index], self._text[self._begin[key]] == "{")


def _items_from(text: str, begin: int) -> list[int]:
    """Where each item of a list begins, or each key of a mapping."""
    at = begin + 1
    by_key, space, separator, colon = text[begin] == "{", _SPACE.match, _SEPARATOR.match, _COLON.match
    found: list[int] = []
    start = space(text, at)
    at = start.end() if start is not None else at
    if text[at] in "}]":
        return found
    while True:
        found.append(at)
        if by_key:
            _, at = _scan(text, at)
            after = colon(text, at)
            at = after.end() if after is not None else at
        _, at = _scan(text, at)
        end = separator(text, at)
        if end is None or end[1] != ",":
            return found
        at = end.end()


class _Scanner:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.diagnostics: list[Diagnostic] = []
        self._at = 0
        self._lines = Lines(text, file)
        self._place = self._lines.position

    def document(self) -> Tree:
        """The one value of the text."""
        tree = self._value(0)
        self._skip()
        if self._at < len(self.text):
            raise self._stop("expected the end of the file")
        return tree

    def outline(self, large: Collection[str], begin: dict[str, int]) -> Fields:
        """The mapping of the text without what stands at some of its keys.

        Args:
            begin: gets where that begins.
        """
        self._next()
        position = self._place(self._at)
        self._at += 1
        entries: dict[str, Entry] = {}
        ends = self._next() == "}"
        while not ends:
            key_position = self._place(self._at)
            key = self._string()
            self._next()
            self._at += 1
            if key in large and self._next() in "[{":
                begin[key] = self._at
                value: Tree = Items((), self._place(self._at))
                _, self._at = _scan(self.text, self._at)
            else:
                value = self._value(1)
            entries[key] = Entry(key_position, value)
            ends = self._separator("}")
            self._skip()
        return Fields(entries, position)

    def item(self, at: int, by_key: bool) -> tuple[SourcePosition | None, Tree]:
        """The value at a place, or behind the key there."""
        self._at = at
        if not by_key:
            return None, self._value(2)
        key_position, _, value = self._member(1)
        return key_position, value

    def _refuse(self, at: int, message: str) -> None:
        self.diagnostics.append(Diagnostic("error", self._place(at), "", message))

    def _stop(self, message: str) -> _Stop:
        """Note what is wrong here; to be raised."""
        found = shown(self.text[self._at : self._at + 1])
        self._refuse(self._at, f"not valid JSON: {message}, found {found}")
        return _Stop()

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self._at)
        self._at = found.end() if found else self._at
        if self.text.startswith(("//", "/*"), self._at):
            raise self._stop("comments are not allowed in JSON (in a .yaml file they are, with #)")

    def _next(self) -> str:
        char = self.text[self._at : self._at + 1]
        if char in _STRUCTURE:
            return char
        self._skip()
        return self.text[self._at : self._at + 1]

    def _value(self, depth: int) -> Tree:
        char = self._next()
        start = self._at
        if depth > DEEPEST:
            self._refuse(start, f"nested more than {DEEPEST} levels deep")
            raise _Stop
        if char == "{":
            return self._mapping(depth)
        if char == "[":
            return self._list(depth)
        if char == '"':
            value = self._string()
            return Scalar(value, value, self._place(start))
        return self._plain(start)

    def _plain(self, start: int) -> Scalar:
        digits, word = _NUMBER.match(self.text, start), _WORD.match(self.text, start)
        if digits:
            self._at = digits.end()
            return self._number(digits[0], start)
        if word and word[0] in _WORDS:
            self._at = word.end()
            return Scalar(_WORDS[word[0]], word[0], self._place(start))
        hint = " (texts stand in double quotes)" if word or self._next() == "'" else ""
        raise self._stop(f"expected a value{hint}")

    def _number(self, text: str, start: int) -> Scalar:
        try:
            return Scalar(number(text), text, self._place(start))
        except ValueError as error:
            self._refuse(start, str(error))
            return Scalar(0, text, self._place(start))

    def _string(self) -> str:
        start = self._at
        found = _STRING.match(self.text, start)
        end = found.end() if found else start
        if not self.text.startswith('"', end):
            self._at = end
            raise self._stop("expected the closing quote of a text")
        try:
            value = str(json.loads(self.text[start : end + 1]))
        except json.JSONDecodeError as error:
            self._at = start + error.pos
            raise self._stop(
                "expected a valid escape such as \\n or \\u00e9 (a backslash itself is written \\\\)"
            ) from None
        self._at = end + 1
        if _SURROGATE.search(value):
            self._refuse(start, "a text with half of a \\u pair; such a text cannot be stored")
            value = _SURROGATE.sub("\ufffd", value)
        return value

    def _list(self, depth: int) -> Tree:
        position = self._place(self._at)
        self._at += 1
        items: list[Tree] = []
        if self._next() == "]":
            self._at += 1
            return make_items(items, position)
        while True:
            items.append(self._value(depth + 1))
            if self._separator("]"):
                return make_items(items, position)

    def _mapping(self, depth: int) -> Tree:
        position = self._place(self._at)
        self._at += 1
        entries: dict[str, Entry] = {}
        text, place = self.text, self._place
        new: Any = tuple.__new__  # what the types call: many are made
        member = _MEMBER.match(text, self._at)
        ends = member is None and self._next() == "}"
        self._at += ends
        while not ends:
            if member is not None:
                key, found, comma = member.groups()
                key_position = place(member.start(1) - 1)
                value: Tree = new(Scalar, (found, found, place(member.start(2) - 1)))
                self._at = member.end()
            else:
                key_position, key, value = self._member(depth)
            if key in entries:
                self._refuse_second(key, key_position, entries[key].key_position)
            else:
                entries[key] = new(Entry, (key_position, value))
            ends = comma is None if member is not None else self._separator("}")
            member = _MEMBER.match(text, self._at)
        return make_fields(entries, position)

    def _member(self, depth: int) -> tuple[SourcePosition, str, Tree]:
        if self._next() != '"':
            raise self._stop("expected a key in double quotes")
        key_position = self._place(self._at)
        key = self._string()
        if self._next() != ":":
            raise self._stop("expected ':' after the key")
        self._at += 1
        return key_position, key, self._value(depth + 1)

    def _refuse_second(self, key: str, position: SourcePosition, first: SourcePosition) -> None:
        place = f"line {first.line}, column {first.column}"
        self.diagnostics.append(Diagnostic("error", position, "", f"duplicate key '{key}' (first at {place})"))

    def _separator(self, closing: str) -> bool:
        """Whether the list or mapping ends here; else a comma and something after it."""
        found = _SEPARATOR.match(self.text, self._at)
        char = found[1] if found is not None else ""
        if found is None or char not in (",", closing):
            self._skip()
            raise self._stop(f"expected ',' or '{closing}'")
        self._at = found.end()
        if char == "," and self.text.startswith(closing, self._at):
            raise self._stop("expected a value after ',' (no comma stands before a closing bracket)")
        return char == closing


def shown(char: str) -> str:
    """A character as an error names it."""
    if not char:
        return "the end of the file"
    return f"'{char}'" if char.isprintable() else f"the character {ord(char):#04x}"
