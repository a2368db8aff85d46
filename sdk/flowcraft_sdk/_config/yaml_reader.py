"""YAML text as a tree of values with their places.

Built from the parser's events and not from its node tree: libyaml's composer recurses without limit, so that a file of
nothing but brackets would end the process.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import yaml

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.flat_mappings import MARK, read_flat, set_apart
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_quoting import in_quotes, is_a_key_of_its_own, quoting_hint, template_at
from flowcraft_sdk._config.yaml_scalars import BEGIN_NUMBERS, WORDS, core_scalar, tagged_scalar
from flowcraft_sdk._config.yaml_tree import DEEPEST, LONG_TEXT, Entry, Fields, Items, Scalar, Tree, make_fields

MOST_ALIASED = 10_000
"""Values that aliases may stand for in one file, all taken together; each `LONG_TEXT` characters of a text count as one more."""

# The parser alone, where PyYAML has libyaml: a loader looks at each event once more.
_Parser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", yaml.SafeLoader)
MOST_DIRECTIVES = 100
"""Directives are compared with each other by the parser."""

_DIRECTIVE = re.compile("^%", re.MULTILINE)
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


class _Frame:
    """A list or mapping that is being read.

    Attributes:
        key: of the value that comes next; None if what stands there can be none.
        merged: values of `<<`, which are added at the end.
        more: values in those that were read, beyond one for each.
        deepest: levels of nesting in them.
    """

    key: Scalar | None = None
    more = deepest = 0
    template: str | None = None

    def __init__(self, position: SourcePosition, mapping: bool, anchor: str | None, start: int) -> None:
        self.start = start
        self.position = position
        self.mapping = self.expects_key = mapping
        self.anchor = anchor
        self.trees: list[Tree] = []
        self.entries: dict[str, Entry] = {}
        self.merged: list[tuple[SourcePosition, Tree]] = []


class _TooDeep(Exception):
    pass


class _NotFlat(Exception):
    """What stands for a mapping that was set apart stands where none is read."""


def read_yaml(
    text: str, file: str, includes: Includes, *, holds: str = "one blueprint"
) -> tuple[Tree | None, list[Diagnostic]]:
    """Read one YAML document.

    Args:
        holds: what a file holds, for the message about a second document in it.

    Returns:
        What it holds, None if it holds nothing or cannot be read, and what is wrong with it.
    """
    many = _directive_too_many(text)
    if many is not None:
        message = (
            f"more than {MOST_DIRECTIVES} lines that begin with '%', which are for YAML's directives; no file needs any"
        )
        return None, [Diagnostic("error", Lines(text, file).position(many), "", message)]
    hidden = text.translate(_HIDE)
    hides = hidden != text or any(char in text for char in _HIDE.values())
    marked, flat = (hidden, []) if hides else set_apart(hidden)
    if flat:
        reader = _Reader(Lines(text, file), Includes(includes.folder), holds, text, hides)
        reader.flat = flat[::-1]
        with suppress(yaml.YAMLError, _TooDeep, _NotFlat):
            reader.take_all(_Parser(marked).get_event)
            if not reader.flat and not reader.diagnostics:
                return reader.root, []
    # None are set apart, or one was no mapping, or something is wrong, which the parser sees best in the text as it is.
    reader = _Reader(Lines(text, file), includes, holds, text, hides)
    try:
        reader.take_all(_Parser(hidden).get_event)
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


def _directive_too_many(text: str) -> int | None:
    """Where there is one directive too many."""
    if "%" not in text:
        return None
    return next((found.start() for found in islice(_DIRECTIVE.finditer(text), MOST_DIRECTIVES, None)), None)


class _Reader:
    def __init__(self, lines: Lines, includes: Includes, holds: str, text: str, hides: bool) -> None:
        self.flat: list[str] = []
        """Mappings that were set apart, the next one last."""
        self.lines = lines
        self.includes = includes
        self.holds = holds
        self.text = text
        self.templates: set[int] = set()
        self.root: Tree | None = None
        self.diagnostics: list[Diagnostic] = []
        self.documents = 0
        self.hides = hides
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Tree | None] = {}
        self._aliased = 0

    def refuse(self, position: SourcePosition, message: str) -> None:
        """Note a mistake."""
        self.diagnostics.append(Diagnostic("error", position, "", message))

    def place(self, position: Any) -> SourcePosition:
        """Where a position of the parser's is."""
        return self.lines.position(position.index if position is not None else 0)

    def take_all(self, get_event: Callable[[], Any]) -> None:
        """Put the parser's events where they belong. What most files have most of is done here, without further calls."""
        new: Any = tuple.__new__
        scalar_event, mapping_start, mapping_end = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.MappingEndEvent
        file, hides, stack = self.lines.file, self.hides, self._stack
        mark = MARK if self.flat else None
        while (event := get_event()) is not None:
            kind = type(event)
            if kind is mapping_end or kind is yaml.SequenceEndEvent:
                tree = self._closed(stack.pop())
            else:
                # The parser counts as `Lines` does: what ends a line for it alone is hidden from it.
                start = event.start_mark
                position = new(SourcePosition, (file, start.line + 1, start.column + 1))
                if kind is scalar_event:
                    text = event.value
                    if hides or event.tag is not None:
                        tree = self._scalar(event, position)
                    elif (text in WORDS or text[0] in BEGIN_NUMBERS) and event.implicit[0]:
                        tree = self._plain(text, position)
                    elif text == mark and event.implicit[0]:
                        tree = self._flat_mapping(position)
                    else:
                        tree = new(Scalar, (text, text, position))
                    if event.anchor is not None:
                        self._anchors[event.anchor] = tree
                elif kind is mapping_start or kind is yaml.SequenceStartEvent:
                    self._open(event, kind is mapping_start, position)
                    continue
                elif kind is yaml.AliasEvent:
                    tree = self._alias(str(event.anchor), position)
                else:
                    if kind is yaml.DocumentStartEvent:
                        self._begin_document(position)
                    continue
            if not stack:
                self.root = self.root if self.root is not None else tree
                continue
            frame = stack[-1]
            if frame.expects_key:
                frame.key = tree if type(tree) is Scalar else None
                if frame.key is None:
                    self._refuse_key(tree, frame)
                frame.expects_key = False
                continue
            if frame.mapping:
                frame.expects_key = True
                key = frame.key
                if key is None or key[1] == "<<" or key[1] in frame.entries:
                    self._enter(frame, key, tree)
                    continue
                frame.entries[key[1]] = new(Entry, (key[2], tree))
            else:
                frame.trees.append(tree)
            if type(tree) is Scalar:
                if len(tree[1]) >= LONG_TEXT:
                    frame.more += len(tree[1]) // LONG_TEXT
            else:
                frame.more += tree.size - 1
                if tree.depth > frame.deepest:
                    frame.deepest = tree.depth

    def _begin_document(self, position: SourcePosition) -> None:
        self.documents += 1
        self._anchors = {}
        if self.documents == 2:
            self.refuse(position, f"a second document; a file holds {self.holds}")

    def _open(self, event: Any, mapping: bool, position: SourcePosition) -> None:
        if event.tag not in _COLLECTION_TAGS:
            self.refuse(position, f"the tag '{event.tag}' is not known; !include is, with the name of a text file")
        if len(self._stack) >= DEEPEST:
            self.refuse(position, f"nested more than {DEEPEST} levels deep")
            raise _TooDeep
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        self._stack.append(_Frame(position, mapping, anchor, event.start_mark.index))

    def _scalar(self, event: Any, position: SourcePosition) -> Scalar:
        text = event.value.translate(_SHOW) if self.hides else event.value
        if event.tag is None:
            return self._plain(text, position) if event.implicit[0] else Scalar(text, text, position)
        try:
            if event.tag == "!include":
                return Scalar(self.includes.read(text), text, position)
            return Scalar(text if event.tag == "!" else tagged_scalar(event.tag, text), text, position)
        except KeyError:
            self.refuse(position, _unknown_tag(event.tag, text))
        except ValueError as error:
            self.refuse(position, str(error))
        return Scalar(text, text, position)

    def _flat_mapping(self, position: SourcePosition) -> Fields:
        found = read_flat(self.flat.pop(), position) if self.flat and len(self._stack) < DEEPEST else None
        if found is None:
            raise _NotFlat
        return found

    def _plain(self, text: str, position: SourcePosition) -> Scalar:
        """A scalar without quotes."""
        try:
            return Scalar(core_scalar(text), text, position)
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

    def _refuse_key(self, tree: Tree, frame: _Frame) -> None:
        template = template_at(self.text, frame.start)
        if template is None or frame.entries:
            self.refuse(tree.position, "a key is a text, not a list or a mapping")
            return
        frame.template = template
        self.templates.add(frame.position.line)
        self.refuse(
            frame.position, f"YAML reads {{{{ }}}} as a mapping; a template needs quotes: {in_quotes(template)}"
        )

    def _enter(self, frame: _Frame, key: Scalar | None, tree: Tree) -> None:
        """Note a value whose key is none, `<<`, or there already."""
        if key is None:
            return
        if key.text == "<<":
            frame.merged.append((key.position, tree))
        else:
            first = frame.entries[key.text].key_position
            self.refuse(key.position, f"duplicate key '{key.text}' (first at line {first.line}, column {first.column})")

    def _closed(self, frame: _Frame) -> Tree:
        tree: Tree
        if not frame.mapping:
            tree = Items(tuple(frame.trees), frame.position, 1 + len(frame.trees) + frame.more, 1 + frame.deepest)
        elif frame.template is not None:
            tree = Scalar(frame.template, frame.template, frame.position)
        elif not frame.merged:
            entries = frame.entries
            tree = Fields(entries, frame.position, 1 + len(entries) + frame.more, 1 + frame.deepest)
        else:
            tree = self._merged(frame)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = tree
        return tree

    def _merged(self, frame: _Frame) -> Fields:
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
