"""YAML text as a tree of values with their places.

Built from the parser's events and not from its node tree: libyaml's composer recurses without limit, so that a file of
nothing but brackets would end the process.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_quoting import in_quotes, is_a_key_of_its_own, quoting_hint, template_at
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

    position: SourcePosition
    mapping: bool
    anchor: str | None
    trees: list[Tree] = field(default_factory=list)
    key: Scalar | None = None
    expects_key: bool = True
    entries: dict[str, Entry] = field(default_factory=dict)
    merged: list[tuple[SourcePosition, Tree]] = field(default_factory=list)
    start: int = 0
    template: str | None = None


class _TooDeep(Exception):
    pass


def read_yaml(
    text: str, file: str, includes: Includes, *, holds: str = "one blueprint"
) -> tuple[Tree | None, list[Diagnostic]]:
    """Read one YAML document.

    Args:
        holds: what a file holds, for the message about a second document in it.

    Returns:
        What it holds, None if it holds nothing or cannot be read, and what is wrong with it.
    """
    hidden = text.translate(_HIDE)
    reader = _Reader(Lines(text, file), includes, holds, text)
    reader.hides = hidden != text or any(char in text for char in _HIDE.values())
    try:
        for event in yaml.parse(hidden, Loader=_Loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        place = reader.place(error.problem_mark or error.context_mark)
        if place.line not in reader.templates:  # what follows from a text without quotes is not reported as well
            reader.refuse(place, _explained(error, text, reader))
        return None, reader.diagnostics
    except yaml.reader.ReaderError as error:
        reader.refuse(reader.lines.position(error.position), f"not valid YAML: {error.reason}")
        return None, reader.diagnostics
    except _TooDeep:
        return None, reader.diagnostics
    return reader.root, reader.diagnostics


class _Reader:
    def __init__(self, lines: Lines, includes: Includes, holds: str, text: str = "") -> None:
        self.lines = lines
        self.includes = includes
        self.holds = holds
        self.text = text
        self.templates: set[int] = set()
        self.root: Tree | None = None
        self.diagnostics: list[Diagnostic] = []
        self.documents = 0
        self.hides = True
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Tree | None] = {}
        self._aliased = 0

    def refuse(self, position: SourcePosition, message: str) -> None:
        """Note a mistake."""
        self.diagnostics.append(Diagnostic("error", position, "", message))

    def place(self, position: Any) -> SourcePosition:
        """Where a position of the parser's is."""
        return self.lines.position(position.index if position is not None else 0)

    def _begins(self, event: Any) -> SourcePosition:
        """Where an event begins. The parser counts as `Lines` does: what ends a line for it alone is hidden from it."""
        position = event.start_mark
        return SourcePosition(self.lines.file, position.line + 1, position.column + 1)

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
            position = self._begins(event)
            self.documents += 1
            self._anchors = {}
            if self.documents == 2:
                self.refuse(position, f"a second document; a file holds {self.holds}")

    def _open(self, event: Any, position: SourcePosition) -> None:
        if event.tag not in _COLLECTION_TAGS:
            self.refuse(position, f"the tag '{event.tag}' is not known; !include is, with the name of a text file")
        if len(self._stack) >= DEEPEST:
            self.refuse(position, f"nested more than {DEEPEST} levels deep")
            raise _TooDeep
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        mapping = isinstance(event, yaml.MappingStartEvent)
        self._stack.append(_Frame(position, mapping, event.anchor, start=event.start_mark.index))

    def _scalar(self, event: Any, position: SourcePosition) -> Scalar:
        text = event.value.translate(_SHOW) if self.hides else event.value
        try:
            if event.tag == "!include":
                return Scalar(self.includes.read(text), text, position)
            if event.tag not in (None, "!"):
                return Scalar(tagged_scalar(event.tag, text), text, position)
            plain = event.implicit[0] and event.tag is None
            return Scalar(core_scalar(text) if plain else text, text, position)
        except KeyError:
            self.refuse(position, _unknown_tag(event.tag, text))
        except ValueError as error:
            self.refuse(position, str(error))
        return Scalar(text, text, position)

    def _alias(self, anchor: str, position: SourcePosition) -> Tree:
        empty = Scalar(None, "", position)
        if anchor not in self._anchors:
            self.refuse(position, f"no anchor '&{anchor}' stands above this alias")
            return empty
        tree = self._anchors[anchor]
        if tree is None:
            self.refuse(position, f"the anchor '&{anchor}' holds itself")
            return empty
        self._aliased += tree.size
        if self._aliased > MOST_ALIASED:
            if self._aliased - tree.size <= MOST_ALIASED:
                self.refuse(position, f"aliases stand for more than {MOST_ALIASED} values")
            return empty
        if len(self._stack) + tree.depth > DEEPEST:
            self.refuse(position, f"nested more than {DEEPEST} levels deep")
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
            frame.key = self._key(tree, frame)
            frame.expects_key = False
        else:
            self._enter(frame, tree)
            frame.expects_key = True

    def _key(self, tree: Tree, frame: _Frame) -> Scalar | None:
        if isinstance(tree, Scalar):
            return tree
        template = template_at(self.text, frame.start)
        if template is not None and not frame.entries:
            frame.template = template
            self.templates.add(frame.position.line)
            self.refuse(
                frame.position, f"YAML reads {{{{ }}}} as a mapping; a template needs quotes: {in_quotes(template)}"
            )
            return None
        self.refuse(tree.position, "a key is a text, not a list or a mapping")
        return None

    def _enter(self, frame: _Frame, tree: Tree) -> None:
        key = frame.key
        if key is None:
            return
        if key.text == "<<":
            frame.merged.append((key.position, tree))
        elif key.text in frame.entries:
            first = frame.entries[key.text].key_position
            self.refuse(key.position, f"duplicate key '{key.text}' (first at line {first.line}, column {first.column})")
        else:
            frame.entries[key.text] = Entry(key.position, tree)

    def _closed(self, frame: _Frame) -> Tree:
        if not frame.mapping:
            return make_items(frame.trees, frame.position)
        if frame.template is not None:
            return Scalar(frame.template, frame.template, frame.position)
        for position, merged in frame.merged:
            for tree in merged.items if isinstance(merged, Items) else (merged,):
                if not isinstance(tree, Fields):
                    self.refuse(position, "'<<' takes a mapping or a list of mappings")
                    continue
                for name, entry in tree.entries.items():
                    frame.entries.setdefault(name, entry)
        return make_fields(frame.entries, frame.position)


def _unknown_tag(tag: str, text: str) -> str:
    known = f"the tag '{tag}' is not known; !include is, with the name of a text file"
    return (
        known
        if tag.startswith("tag:")
        else f"{known}; a text that begins with ! needs quotes: {in_quotes(f'{tag} {text}'.strip())}"
    )


def _explained(error: yaml.MarkedYAMLError, text: str, reader: _Reader) -> str:
    diagnostic = error.problem or error.context or "it cannot be read"
    hint = next((advice for words, advice in _HINTS.items() if words in diagnostic), None)
    place, begun = error.problem_mark, error.context_mark
    if place is not None and text[place.index : place.index + 1] == "\t":
        hint = _HINTS["tab character"]
    elif place is not None:
        hint = quoting_hint(text, place.index) or hint
        if "mapping values are not allowed" in diagnostic and is_a_key_of_its_own(text, place.index):
            hint = f"is a ':' missing in line {reader.place(place).line - 1}?"
    since = ""
    if begun is not None and place is not None and begun.line != place.line and error.context:
        position = reader.place(begun)
        since = f" {error.context}, begun at line {position.line}, column {position.column}"
    return f"not valid YAML: {diagnostic}{since}" + (f"; {hint}" if hint else "")
