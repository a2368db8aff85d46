"""Keys: the unknown ones are mistakes with a suggestion, and bare values are put where their short form says."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flowcraft_sdk._config.profiles import PROFILES
from flowcraft_sdk._config.source_positions import Path, SourcePosition
from flowcraft_sdk._config.value_tree import Tree

from . import shape
from .suggested_keys import hint_for


def write_out_short_forms(tree: Tree) -> None:
    """Replace bare values that stand for a section by that section, so that files can be merged key by key."""
    for path, value in list(tree.scalars()):
        section = shape.section_of(place_of(path, tree), value)
        key = shape.short_form_of(section) if section else None
        if key is not None and path:
            origin = tree.origin_of(path)
            tree.replace(path, {key: value})
            if origin is not None:
                tree.origins[(*path, key)] = replace(origin, short=True)


def remove_unknown_keys(tree: Tree) -> list[tuple[Path, SourcePosition | None, str]]:
    """Take out all keys that no section knows; returns their paths, their places and what to say about each."""
    found = list(_unknown((), shape.ROOT, tree.data))
    problems = []
    for path, message in found:
        origin = tree.origin_of(path)
        problems.append((path, origin.key if origin else None, message))
        tree.remove(path)
    return problems


def remove_empty_sections(tree: Tree) -> None:
    """Take out sections that are there without a value, as when all their keys are commented out."""
    for path, value in list(tree.scalars()):
        if value is None and path and not isinstance(path[-1], int):
            place = place_of(path, tree)
            section = shape.section_of(place, {})
            has_keys = section is not None and shape.short_form_of(section) is None
            if has_keys or shape.is_mapping(place) or shape.is_list(place):
                tree.remove(path)


def place_of(path: Path, tree: Tree) -> shape.Shape:
    """What may stand at a path."""
    place = shape.ROOT
    for depth, key in enumerate(path):
        place = shape.child_of(place, key, tree.get(path[:depth]))
    return place


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
            hint = hint_for(key, known if path else [*known, PROFILES], [str(part) for part in path])
            yield (*path, key), f"unknown key{hint}"
        else:
            yield from _unknown((*path, key), shape.child_of(place, key, value), item)
