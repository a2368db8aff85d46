"""Single values from the environment (`FLOWCRAFT__EXECUTOR__WORKERS=8`) and the command line, on top of the file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk._config.environment import OVERRIDE_PREFIX, Environment
from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.value_tree import Origin, Tree

from . import shape
from .keys import place_of
from .suggested_keys import hint_for

_Names = dict[Path, dict[str, str] | None]
"""By path, the keys of what is a section or a mapping: as they are, by how variables may write them."""

Diagnostics = list[tuple[str, str]]
"""Name of the variable or option, and what is wrong with it."""


def from_environment(environ: Mapping[str, str], below: Tree) -> tuple[Tree, Diagnostics]:
    """The values that the environment sets.

    Names are matched whatever their case, with or without underscores: `DRAIN_TIMEOUT` is `drainTimeout`. An empty
    variable sets nothing, as containers often pass on variables that are not set.

    Args:
        below: the file's values, whose handlers and providers can be named.
    """
    tree, diagnostics = Tree(), []
    names: _Names = {}
    for name, text in sorted(environ.items()):
        if not name.upper().startswith(OVERRIDE_PREFIX) or not text:
            continue
        try:
            path = _resolve(name[len(OVERRIDE_PREFIX) :].split("__"), below, names)
        except KeyError as error:
            diagnostics.append((name, str(error.args[0])))
            continue
        line = environ.lines.get(name) if isinstance(environ, Environment) else None
        label = f"environment variable {name}" if line is None else f".env:{line} ({name})"
        tree.put(path, _items(path, text, below), Origin(label))
    return tree, diagnostics


def from_command_line(values: Mapping[str, Any]) -> Tree:
    """The values that options set, by dotted path such as `executor.workers`."""
    tree = Tree()
    for name, value in values.items():
        tree.put(tuple(name.split(".")), value, Origin(f"option for {name}"))
    return tree


def _resolve(parts: list[str], below: Tree, names: _Names) -> Path:
    path: Path = ()
    place = shape.ROOT
    for part in parts:
        value = below.get(path)
        if path not in names:
            keys = _known(place, value)
            names[path] = None if keys is None else {_plain(key): key for key in reversed(keys)}
        known = names[path]
        if known is None:
            raise KeyError(f"{part!r} cannot be set, there is nothing below '{'.'.join(map(str, path))}'")
        found = known.get(_plain(part))
        if found is None and not shape.is_mapping(place):
            raise KeyError(f"unknown key '{part}'{hint_for(part, [*known.values()][::-1])}")
        key = part.lower() if found is None else found
        path, place = (*path, key), shape.child_of(place, key, value)
    if shape.section_of(place, below.get(path)) is not None or shape.is_mapping(place):
        raise KeyError(f"'{'.'.join(map(str, path))}' is a section; name one of its keys after another '__'")
    return path


def _known(place: shape.Shape, value: Any) -> list[str] | None:
    section = shape.section_of(place, value)
    if section is not None:
        return shape.keys_of(section)
    if shape.is_mapping(place):
        return [str(key) for key in value] if isinstance(value, dict) else []
    return None


def _items(path: Path, text: str, below: Tree) -> Any:
    """A list is written `a, b`; what else stands in a variable is left to the model to read."""
    if shape.is_list(place_of(path, below)):
        return list(_split(text))
    return text


def _split(text: str) -> Iterator[str]:
    for item in text.removeprefix("[").removesuffix("]").split(","):
        yield item.strip().strip("\"'")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]", "", name).lower()
