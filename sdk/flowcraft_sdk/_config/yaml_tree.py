"""What a file holds, before it is known to be a blueprint: values, each with the place where it stands."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flowcraft_sdk._config.source_positions import Path, SourcePosition

DEEPEST = 100
"""Levels of nesting that are read; more than that is no blueprint."""


LONG_TEXT = 1_000
"""Characters of a text that count as one value more, where it is counted what aliases stand for."""


class Scalar(
    NamedTuple
):  # a tuple, as the other two: made several times as fast as a frozen dataclass, and there are many
    """A text, number, truth value or null, and the text it was written as."""

    value: str | int | float | bool | None
    text: str
    position: SourcePosition

    @property
    def size(self) -> int:
        """Values in it; a long text counts as several."""
        return 1 + len(self.text) // LONG_TEXT

    @property
    def depth(self) -> int:
        """Levels of nesting."""
        return 0


class Items(NamedTuple):
    """A list."""

    items: tuple["Tree", ...]
    position: SourcePosition
    size: int = 1
    depth: int = 1


class Entry(NamedTuple):
    """A value under a key, and where the key stands."""

    key_position: SourcePosition
    value: "Tree"


class Fields(NamedTuple):
    """A mapping, its keys as they were written."""

    entries: Mapping[str, Entry]
    position: SourcePosition
    size: int = 1
    depth: int = 1


Tree = Scalar | Items | Fields


@dataclass(slots=True)
class PositionTable:
    """Collects the places of keys and values while a blueprint is put together."""

    keys: dict[Path, SourcePosition] = field(default_factory=dict)
    values: dict[Path, SourcePosition] = field(default_factory=dict)
    written: dict[Path, Path] = field(default_factory=dict)

    def put(self, path: Path, value: SourcePosition, key: SourcePosition | None = None) -> None:
        """Note where a value stands, and its key."""
        self.values[path] = value
        if key is not None:
            self.keys[path] = key

    def data(self, tree: Tree, path: Path) -> Any:
        """A tree as plain data; the places of all that is in it are noted below `path`."""
        self.values[path] = tree.position
        if isinstance(tree, Scalar):
            return tree.value
        if isinstance(tree, Items):
            return [self.data(item, (*path, index)) for index, item in enumerate(tree.items)]
        plain = {}
        for name, entry in tree.entries.items():
            self.keys[(*path, name)] = entry.key_position
            plain[name] = self.data(entry.value, (*path, name))
        return plain


def make_items(items: list[Tree], position: SourcePosition) -> Items:
    """A list of these values."""
    return Items(tuple(items), position, *_extent(items))


def make_fields(entries: dict[str, Entry], position: SourcePosition) -> Fields:
    """A mapping of these entries."""
    return Fields(entries, position, *_extent([value for _, value in entries.values()]))


def kind_of(tree: Tree) -> str:
    """What a value is, in words for people."""
    if isinstance(tree, Fields):
        return "a mapping"
    if isinstance(tree, Items):
        return "a list"
    if tree.value is None:
        return "nothing"
    return "a text" if isinstance(tree.value, str) else shortened(tree.text)


def shortened(text: str, most: int = 60) -> str:
    """A text in quotes, cut to a length that fits a line."""
    flat = " ".join(text.split()) if "\n" in text else text
    printable = "".join(char if char.isprintable() else "\ufffd" for char in flat)
    return f"'{printable}'" if len(printable) <= most else f"'{printable[: most - 1]}…'"


def _extent(trees: Collection[Tree]) -> tuple[int, int]:
    """The size and the depth of what holds these values."""
    size, deepest = 1 + len(trees), 0
    for tree in trees:
        if type(tree) is Scalar:
            size += len(tree[1]) // LONG_TEXT
        else:
            size += tree.size - 1
            deepest = max(deepest, tree.depth)
    return size, 1 + deepest
