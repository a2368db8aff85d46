"""Writes found values into test cases in place of the expected ones. All else in the file stays: comments, order, spacing."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.testing.expectations import Mismatch

WIDEST = 110
"""Columns up to which a value is written on one line."""

Path = tuple[str | int, ...]


class CannotRewrite(Exception):
    """A value stands where it cannot be replaced, such as in what an anchor or an include brings."""


def rewritten(text: str, updates: Iterable[tuple[int, Mismatch]], form: str) -> str:
    """The text of a blueprint file with found values in place of expected ones.

    Args:
        text: of the file.
        updates: by the index of a test case what it did not meet, each with `can_update`.
        form: `yaml` or `json`.

    Raises:
        CannotRewrite: the text cannot be changed so that nothing but these values is another one.
    """
    wanted = {("tests", index, "expect", *mismatch.path): mismatch.actual for index, mismatch in updates}
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CannotRewrite(f"it is no plain YAML: {' '.join(str(error).split())}") from None
    places = [(*_place(root, path), value) for path, value in wanted.items()]
    changed = text
    for start, end, indent, value in sorted(places, key=lambda place: place[0], reverse=True):
        # A value on one line, or on several that stand deeper than the key: both are JSON, which YAML reads as well.
        column = start - (text.rfind("\n", 0, start) + 1)
        line = json.dumps(value, ensure_ascii=False)
        if column + len(line) > WIDEST and isinstance(value, dict | list) and value:
            line = json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n" + " " * indent)
        changed = changed[:start] + line + changed[end:]
    _check(text, changed, wanted, form)
    return changed


def _place(root: Any, path: Path) -> tuple[int, int, int]:
    """Where a value begins and ends, and how deep further lines of it have to stand."""
    node, indent = root, 0
    for key in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if isinstance(name, yaml.ScalarNode) and name.value == key:
                    found, indent = value, name.start_mark.column + 2
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = node.value[key]
        if found is None or found.start_mark.index < node.start_mark.index:
            raise CannotRewrite(f"{path[-1]} does not stand where the test stands: an anchor or an include brings it")
        node = found
    return node.start_mark.index, _end(node), indent


def _end(node: Any) -> int:
    """The end of a value. That of a block is the end of its last part: what follows, such as a comment, is not in it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(part) for part in (last if isinstance(last, tuple) else (last,)))
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        raise CannotRewrite("a text in a block (| or >) is not replaced: write it in quotes")
    return int(node.end_mark.index)


def _check(before: str, after: str, wanted: dict[Path, Any], form: str) -> None:
    """Make sure that the new text reads as the old one with these values replaced, and as nothing else."""
    old, new = _cases(before, form), _cases(after, form)
    for path, value in wanted.items():
        target: Any = old
        for key in path[1:-1]:
            target = target[key]
        target[path[-1]] = value
    if new != old:
        raise CannotRewrite("the test cases would read otherwise than meant")


def _cases(text: str, form: str) -> list[Any]:
    blueprint, _ = load_text(text, "blueprint", "blueprint", "json" if form == "json" else "yaml")
    if blueprint is None:
        raise CannotRewrite("the file could not be read any more")
    cases: list[Any] = json.loads(json.dumps([dict(case) for case in blueprint.tests]))
    return cases


def updates_of(results: Sequence[Any]) -> list[tuple[int, Mismatch]]:
    """What can be taken over of some results of one file."""
    return [(result.index, mismatch) for result in results for mismatch in result.mismatches if mismatch.can_update]
