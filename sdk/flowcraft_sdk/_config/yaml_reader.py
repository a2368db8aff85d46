"""YAML text as a tree of values with their places.

Built from the parser's events and not from its node tree: libyaml's composer recurses without limit, so that a file of
nothing but brackets would end the process.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.marks import Mark
from flowcraft_sdk._config.problems import Problem
from flowcraft_sdk._config.yaml_scalars import core_scalar, tagged_scalar
from flowcraft_sdk._config.yaml_tree import DEEPEST, Entry, Fields, Items, Scalar, Tree, make_fields, make_items

MOST_ALIASED = 10_000
"""Values that aliases may stand for in one file, all taken together."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_HIDE = {0x85: "\ufdd0", 0x2028: "\ufdd1", 0x2029: "\ufdd2"}
"""To YAML 1.2 these are characters like any other, to the parser they end a line; pasted texts may hold them unseen.
What stands for them are code points that Unicode keeps free for such uses."""
_SHOW = {ord(hidden): chr(code) for code, hidden in _HIDE.items()}
_HINTS = {
    "mapping values are not allowed": "a text with ': ' in it needs quotes",
    "tab character": "indent with spaces, not with tabs",
    "cannot start any token": "a text that begins with this character needs quotes",
    "could not find expected ':'": "a key needs a ':' after it",
    "did not find expected key": "is it indented as the keys above it?",
    "did not find expected <document start>": "a file holds one document, a mapping of keys",
}


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read."""

    mark: Mark
    mapping: bool
    anchor: str | None
    trees: list[Tree] = field(default_factory=list)
    key: Scalar | None = None
    expects_key: bool = True
    entries: dict[str, Entry] = field(default_factory=dict)
    merged: list[tuple[Mark, Tree]] = field(default_factory=list)


class _TooDeep(Exception):
    pass


def read_yaml(
    text: str, file: str, includes: Includes, *, holds: str = "one blueprint"
) -> tuple[Tree | None, list[Problem]]:
    """Read one YAML document.

    Args:
        holds: what a file holds, for somebody who wrote two documents into it.

    Returns:
        What it holds, None if it holds nothing or cannot be read, and what is wrong with it.
    """
    hidden = text.translate(_HIDE)
    reader = _Reader(Lines(text, file), includes, holds)
    reader.hides = hidden != text or any(char in text for char in _HIDE.values())
    try:
        for event in yaml.parse(hidden, Loader=_Loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        reader.refuse(reader.place(error.problem_mark or error.context_mark), _explained(error, text, reader))
        return None, reader.problems
    except yaml.reader.ReaderError as error:
        reader.refuse(reader.lines.mark(error.position), f"not valid YAML: {error.reason}")
        return None, reader.problems
    except _TooDeep:
        return None, reader.problems
    return reader.root, reader.problems


class _Reader:
    def __init__(self, lines: Lines, includes: Includes, holds: str) -> None:
        self.lines = lines
        self.includes = includes
        self.holds = holds
        self.root: Tree | None = None
        self.problems: list[Problem] = []
        self.documents = 0
        self.hides = True
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Tree | None] = {}
        self._aliased = 0

    def refuse(self, mark: Mark, message: str) -> None:
        """Note a mistake."""
        self.problems.append(Problem("error", mark, "", message))

    def place(self, mark: Any) -> Mark:
        """Where a mark of the parser's is."""
        return self.lines.mark(mark.index if mark is not None else 0)

    def _begins(self, event: Any) -> Mark:
        """Where an event begins. The parser counts as `Lines` does: what ends a line for it alone is hidden from it."""
        mark = event.start_mark
        return Mark(self.lines.file, mark.line + 1, mark.column + 1)

    def take(self, event: Any) -> None:
        """Put the parser's next event where it belongs."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._add(self._scalar(event, self._begins(event)), event.anchor)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            frame = self._stack.pop()
            self._add(self._closed(frame), frame.anchor)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._open(event, self._begins(event))
        elif kind is yaml.AliasEvent:
            self._add(self._alias(str(event.anchor), self._begins(event)), None)
        elif kind is yaml.DocumentStartEvent:
            mark = self._begins(event)
            self.documents += 1
            self._anchors = {}
            if self.documents == 2:
                self.refuse(mark, f"a second document; a file holds {self.holds}")

    def _open(self, event: Any, mark: Mark) -> None:
        if event.tag not in _COLLECTION_TAGS:
            self.refuse(mark, f"the tag '{event.tag}' is not known; !include is, with the name of a text file")
        if len(self._stack) >= DEEPEST:
            self.refuse(mark, f"nested more than {DEEPEST} levels deep")
            raise _TooDeep
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(mark, isinstance(event, yaml.MappingStartEvent), event.anchor))

    def _scalar(self, event: Any, mark: Mark) -> Scalar:
        text = event.value.translate(_SHOW) if self.hides else event.value
        try:
            if event.tag == "!include":
                return Scalar(self.includes.read(text), text, mark)
            if event.tag not in (None, "!"):
                return Scalar(tagged_scalar(event.tag, text), text, mark)
            plain = event.implicit[0] and event.tag is None
            return Scalar(core_scalar(text) if plain else text, text, mark)
        except KeyError:
            self.refuse(mark, f"the tag '{event.tag}' is not known; !include is, with the name of a text file")
        except ValueError as error:
            self.refuse(mark, str(error))
        return Scalar(text, text, mark)

    def _alias(self, anchor: str, mark: Mark) -> Tree:
        empty = Scalar(None, "", mark)
        if anchor not in self._anchors:
            self.refuse(mark, f"no anchor '&{anchor}' stands above this alias")
            return empty
        tree = self._anchors[anchor]
        if tree is None:
            self.refuse(mark, f"the anchor '&{anchor}' holds itself")
            return empty
        self._aliased += tree.size
        if self._aliased > MOST_ALIASED:
            if self._aliased - tree.size <= MOST_ALIASED:
                self.refuse(mark, f"aliases stand for more than {MOST_ALIASED} values")
            return empty
        if len(self._stack) + tree.depth > DEEPEST:
            self.refuse(mark, f"nested more than {DEEPEST} levels deep")
            return empty
        return tree

    def _add(self, tree: Tree, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = tree
        if not self._stack:
            if self.root is None:
                self.root = tree
            return
        frame = self._stack[-1]
        if not frame.mapping:
            frame.trees.append(tree)
        elif frame.expects_key:
            frame.key = self._key(tree)
            frame.expects_key = False
        else:
            self._enter(frame, tree)
            frame.expects_key = True

    def _key(self, tree: Tree) -> Scalar | None:
        if isinstance(tree, Scalar):
            return tree
        self.refuse(tree.mark, "a key is a text, not a list or a mapping")
        return None

    def _enter(self, frame: _Frame, tree: Tree) -> None:
        key = frame.key
        if key is None:
            return
        if key.text == "<<":
            frame.merged.append((key.mark, tree))
        elif key.text in frame.entries:
            first = frame.entries[key.text].key_mark
            self.refuse(key.mark, f"duplicate key '{key.text}' (first at line {first.line}, column {first.column})")
        else:
            frame.entries[key.text] = Entry(key.mark, tree)

    def _closed(self, frame: _Frame) -> Tree:
        if not frame.mapping:
            return make_items(frame.trees, frame.mark)
        for mark, merged in frame.merged:
            for tree in merged.items if isinstance(merged, Items) else (merged,):
                if not isinstance(tree, Fields):
                    self.refuse(mark, "'<<' takes a mapping or a list of mappings")
                    continue
                for name, entry in tree.entries.items():
                    frame.entries.setdefault(name, entry)
        return make_fields(frame.entries, frame.mark)


def _explained(error: yaml.MarkedYAMLError, text: str, reader: _Reader) -> str:
    problem = error.problem or error.context or "it cannot be read"
    hint = next((advice for words, advice in _HINTS.items() if words in problem), None)
    place, begun = error.problem_mark, error.context_mark
    if place is not None and text[place.index : place.index + 1] == "\t":
        hint = _HINTS["tab character"]
    since = ""
    if begun is not None and place is not None and begun.line != place.line and error.context:
        mark = reader.place(begun)
        since = f" {error.context}, begun at line {mark.line}, column {mark.column}"
    return f"not valid YAML: {problem}{since}" + (f"; {hint}" if hint else "")
