"""Keys: the unknown ones are mistakes with a suggestion, and bare values are put where their short form says."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from . import shape
from .tree import Path, Tree

EXTENSION = "x-"
"""Keys at the top that begin so are for whoever wrote them, such as a place for anchors."""


def write_out_short_forms(tree: Tree) -> None:
    """Replace bare values that stand for a section by that section, so that files can be merged key by key."""
    for path, value in list(tree.scalars()):
        place = shape.ROOT
        for depth, key in enumerate(path):
            place = shape.child_of(place, key, tree.get(path[:depth]))
        section = shape.section_of(place, value)
        key = shape.short_form_of(section) if section else None
        if key is not None and path:
            origin = tree.origin_of(path)
            tree.replace(path, {key: value})
            if origin is not None:
                tree.origins[(*path, key)] = origin


def remove_unknown_keys(tree: Tree) -> list[tuple[Path, str]]:
    """Take out all keys that no section knows; returns their paths and what to say about each."""
    found = list(_unknown((), shape.ROOT, tree.data))
    for path, _ in found:
        tree.remove(path)
    return found


def suggestion(key: str, known: list[str]) -> str:
    """`; did you mean 'x'?` if one of the known keys is near, else nothing."""
    plain = key.replace("_", "").replace("-", "").lower()
    near = [name for name in known if name.lower() == plain] or get_close_matches(key, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _unknown(path: Path, place: Any, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown((*path, index), shape.child_of(place, index, value), item)
    if not isinstance(value, dict):
        return
    section = shape.section_of(place, value)
    if section is None and not shape.is_mapping(place):
        return
    known = shape.keys_of(section) if section is not None else None
    for key, item in value.items():
        if known is not None and key not in known:
            hint = suggestion(str(key), known) or f"; known: {', '.join(known)}"
            yield (*path, key), f"unknown key{hint}"
        else:
            yield from _unknown((*path, key), shape.child_of(place, key, value), item)
