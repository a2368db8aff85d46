"""LoadContext single values of a tree: each is checked, and what is wrong is noted with its place."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import Path, SourcePosition, as_written, written_path
from flowcraft_sdk._config.yaml_tree import Entry, Fields, Items, PositionTable, Scalar, Tree, kind_of, shortened
from flowcraft_sdk.protocol.sources import is_expression
from flowcraft_server.blueprints.durations import check_has_unit, parse_duration_ms
from flowcraft_server.blueprints.loading.keys import EDGE_KEYS, STRUCTURE, belongs_under_config, word_of_another
from flowcraft_server.blueprints.suggestions import did_you_mean, listed, nearest

LONGEST_ID = 200
PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_ID}}}")
"""Ids of nodes and blueprints about which no question arises."""

MOST_REPORTED = 10
"""Diagnostics with the same words at the same place of a file."""
_PIECE = re.compile(r"[\s'\"()=<>&|!?]")
"""What a key never holds, but the rest of a text that was cut at its comma."""
_NOT_IN_IDS = frozenset("#[]|>")


class LoadContext:
    """One file on its way to a blueprint.

    Args:
        file: its name as people see it.
        lenient: unknown keys are passed over with a warning, as in the JSON of graph editors, unless they look like a
            misspelt one.

    Attributes:
        complete: no node and no edge is left out.
        nodes_known: the id of every node is known, so that a name that is none of them is wrong for certain.
        meant: paths of keys for which another system's word was written, which was reported.
        stray_keys: by the id of a node, keys that it cannot have and that look like none of those that it can.
    """

    def __init__(self, file: str, *, lenient: bool) -> None:
        self.file = file
        self.lenient = lenient
        self.diagnostics: list[Diagnostic] = []
        self._reported: set[Diagnostic] = set()
        self._reports_of: dict[tuple[SourcePosition | None, str], int] = {}
        self.positions = PositionTable()
        self.complete = True
        self.nodes_known = True
        self.meant: set[Path] = set()
        self.stray_keys: dict[str, list[str]] = {}

    def error(self, position: SourcePosition, path: Path | str, message: str) -> None:
        """Note a mistake."""
        self._note(Diagnostic("error", position, self._shown(path), message))

    def lost(self, position: SourcePosition, path: Path | str, message: str) -> None:
        """Note a mistake that leaves out an edge, or of a node all but its id."""
        self.complete = False
        self.error(position, path, message)

    def lost_node(self, position: SourcePosition, path: Path | str, message: str) -> None:
        """Note a mistake that leaves out a node."""
        self.nodes_known = False
        self.lost(position, path, message)

    def warning(self, position: SourcePosition, path: Path | str, message: str) -> None:
        """Note something that is probably not meant so."""
        self._note(Diagnostic("warning", position, self._shown(path), message))

    def _shown(self, path: Path | str) -> str:
        return path if isinstance(path, str) else written_path(as_written(path, self.positions.written))

    def _note(self, diagnostic: Diagnostic) -> None:
        # An aliased value is read once for each alias: what is wrong with it is reported for some of the nodes that have it.
        place = (diagnostic.position, diagnostic.message)
        count = self._reports_of.get(place, 0)
        if diagnostic not in self._reported and count < MOST_REPORTED:
            self._reported.add(diagnostic)
            self._reports_of[place] = count + 1
            self.diagnostics.append(diagnostic)

    def fields(
        self, tree: Tree, path: Path, known: Collection[str], ignored: Collection[str] = ()
    ) -> Mapping[str, Entry]:
        """The entries of a mapping that has none but these keys; keys that begin with `x-` are ignored."""
        if not isinstance(tree, Fields):
            if not is_null(tree):
                self.error(tree.position, path, f"expected a mapping with {listed(known)}; got {kind_of(tree)}")
            return {}
        for name, (_, value) in tree.entries.items():
            if name not in known or (type(value) is Scalar and value[0] is None):
                break
        else:
            return tree.entries
        found = {}
        for name, entry in tree.entries.items():
            if name in known:
                if not is_null(entry.value):
                    found[name] = entry
            elif name not in ignored and not name.startswith("x-"):
                if is_null(entry.value) and _PIECE.search(name):
                    message = f"{shortened(name)} is no key: inside of {{ }} a text with a comma needs quotes"
                    self.error(entry.key_position, path, message)
                    continue
                self._unknown_key(name, entry.key_position, path, known)
        return found

    def _unknown_key(self, name: str, position: SourcePosition, path: Path, known: Collection[str]) -> None:
        other = nearest(name, known)
        where = self._shown((*path, name))
        if self.lenient and other is None:
            self.warning(position, where, "unknown key, ignored")
        else:
            other = other or word_of_another(name, known)
            meant = f"; did you mean '{other}'?" if other is not None else ""
            if other is not None:
                self.meant.add((*path, other))
                # What follows from its lack is not reported as well.
                self.complete = self.complete and other not in STRUCTURE
                self.nodes_known = self.nodes_known and other != "nodes"
            if not meant and len(path) == 2 and path[0] == "nodes":
                meant = belongs_under_config(name)
                if word_of_another(name, EDGE_KEYS) == "condition" or name == "condition":
                    meant = f"; a condition stands on an edge: {{source: ..., target: {path[1]}, condition: ...}}"
                if not meant and "params" in known:
                    meant = f"; known: {', '.join(known)}; what the handler takes stands in 'params'"
                    self.stray_keys.setdefault(str(path[1]), []).append(name)
            self.error(position, where, f"unknown key{meant or '; known: ' + listed(known)}")

    def any_fields(self, tree: Tree, path: Path, what: str) -> Mapping[str, Entry]:
        """The entries of a mapping with any keys."""
        if isinstance(tree, Fields):
            return tree.entries
        if not is_null(tree):
            self.error(tree.position, path, f"expected a mapping of {what}; got {kind_of(tree)}")
        return {}

    def text(self, tree: Tree, path: Path, what: str = "a text") -> str | None:
        """A text; numbers and truth values count as the text they were written as."""
        if type(tree) is Scalar:
            value, text, position = tree
            if value is not None:
                self.positions.values[path] = position
                return value if isinstance(value, str) else text
        self.error(tree.position, path, f"expected {what}; got {kind_of(tree)}")
        return None

    def strict_text(self, tree: Tree, path: Path, what: str) -> str | None:
        """A text; anything else is a mistake."""
        if isinstance(tree, Scalar) and isinstance(tree.value, str):
            self.positions.put(path, tree.position)
            return tree.value
        self.error(tree.position, path, f"expected {what}; got {kind_of(tree)}")
        return None

    def texts(self, tree: Tree, path: Path, what: str) -> list[tuple[str, SourcePosition]]:
        """A text or a list of texts, with their places."""
        if not isinstance(tree, Items):
            text = self.text(tree, path, f"{what} or a list of them")
            return [] if text is None else [(text, tree.position)]
        found = []
        for index, item in enumerate(tree.items):
            text = self.text(item, (*path, index), what)
            if text is not None:
                found.append((text, item.position))
        return found

    def identifier(self, tree: Tree, path: Path, what: str) -> str | None:
        """The id of a node or blueprint."""
        text = self.text(tree, path, f"the id of a {what}")
        if text is not None:
            self.check_identifier(text, tree.position, path, what)
        return text

    def check_identifier(self, text: str, position: SourcePosition, path: Path, what: str) -> None:
        """Note an id that cannot be one."""
        if PLAIN_ID.fullmatch(text):
            return
        wrong = ""
        if not text.strip():
            wrong = "is empty"
        elif len(text) > LONGEST_ID:
            wrong = f"is longer than {LONGEST_ID} characters"
        elif text != text.strip() or not text.isprintable():
            wrong = "begins or ends with a space, or holds a character that cannot be printed"
        elif _NOT_IN_IDS & set(text):
            wrong = "holds one of # [ ] | >"
        if wrong:
            shape = "letters, digits, - and _ are best"
            self.error(position, path, f"{shortened(text)} is no id for a {what}: it {wrong}; {shape}")

    def choice(self, tree: Tree, path: Path, options: tuple[str, ...]) -> str | None:
        """One of a few words."""
        text = self.text(tree, path, " or ".join(f"'{option}'" for option in options))
        if text is None or text in options:
            return text
        known = " or ".join(f"'{option}'" for option in options)
        self.error(tree.position, path, f"expected {known}, got {shortened(text)}{did_you_mean(text, options)}")
        return None

    def number(self, tree: Tree, path: Path, least: float, most: float | None = None) -> float | None:
        """A number within bounds."""
        self.positions.put(path, tree.position)
        value = tree.value if isinstance(tree, Scalar) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and _within(value, least, most):
            return value
        bounds = f"of {least:g} or more" if most is None else f"from {least:g} to {most:g}"
        self.error(tree.position, path, f"expected a number {bounds}, got {kind_or_text(tree)}")
        return None

    def whole_number(self, tree: Tree, path: Path, least: int, most: int) -> int | None:
        """A whole number between two bounds."""
        self.positions.put(path, tree.position)
        value = tree.value if isinstance(tree, Scalar) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.error(tree.position, path, f"expected a whole number from {least} to {most}, got {kind_or_text(tree)}")
        return None

    def duration(self, tree: Tree, path: Path) -> int | None:
        """Milliseconds of a duration."""
        self.positions.put(path, tree.position)
        if not self.has_unit(tree, path):
            return None
        try:
            return parse_duration_ms(tree.value if isinstance(tree, Scalar) else [])
        except ValueError as error:
            self.error(tree.position, path, str(error).partition("; got")[0] + f"; got {kind_or_text(tree)}")
            return None

    def expression(self, tree: Tree, path: Path) -> str | None:
        """The expression that stands in a value's place: a text that begins with `=`; None if it is none."""
        value = tree.value if isinstance(tree, Scalar) else None
        if not isinstance(value, str) or not is_expression(value):
            return None
        self.positions.put(path, tree.position)
        return value

    def has_unit(self, tree: Tree, path: Path) -> bool:
        """Whether a duration says its unit; only the JSON of the original counts in milliseconds without one."""
        try:
            if not self.lenient and isinstance(tree, Scalar):
                check_has_unit(tree.value)
        except ValueError as error:
            self.error(tree.position, path, str(error))
            return False
        return True

    def data(self, tree: Tree, path: Path) -> Any:
        """Any value, as plain data."""
        return self.positions.data(tree, path)


def is_null(tree: Tree) -> bool:
    """Whether there is nothing, or `null`."""
    return isinstance(tree, Scalar) and tree.value is None


def is_blank(tree: Tree) -> bool:
    """Whether there is nothing, `null`, or a text of no characters (graph editors write it for "not set")."""
    return isinstance(tree, Scalar) and tree.value in (None, "")


def kind_or_text(tree: Tree) -> str:
    """A scalar as it was written, or else what kind of value it is."""
    return shortened(tree.text) if isinstance(tree, Scalar) and tree.value is not None else kind_of(tree)


def _within(value: float, least: float, most: float | None) -> bool:
    return least <= value and (most is None or value <= most)
