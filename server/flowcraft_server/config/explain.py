"""What the model finds wrong with a value, in words for its author."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr, ValidationError

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.observability.redaction import is_secret_name

from . import shape
from .keys import place_of
from .quantities import format_duration, format_size

LONGEST_SHOWN = 77
"""Characters that are shown of a wrong value."""

_PLAIN = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "string_type": "expected text",
    "bool_type": "expected on or off",
    "bool_parsing": "expected on or off",
    "dict_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)",
    "model_attributes_type": "expected a mapping (key: value)",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
}


def mistakes_of(error: ValidationError, tree: Tree) -> Iterator[tuple[Path, str]]:
    """Each thing that is wrong: its path in the file and one sentence.

    Args:
        tree: the values that were validated, for their paths and for what is shown of them.
    """
    explained: set[Path] = set()
    for found in error.errors(include_url=False):
        if found["type"] == "default_factory_not_called":  # a default that depends on what is wrong itself
            continue
        path = _path_of(found["loc"], tree)
        context = found.get("ctx", {})
        if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, "type")
        elif found["type"] == "mistake" and "at" in context:
            path = (*path, context["at"])
        if path in explained:  # pydantic reports each form that a value might have had
            continue
        explained.add(path)
        yield path, _sentence(found["type"], context, path, tree)


def _sentence(kind: str, context: Mapping[str, Any], path: Path, tree: Tree) -> str:
    value = tree.get(path)
    got = _shown(value, path) + _written(path, tree)
    if kind in ("mistake", "quantity"):
        return str(context["why"]).replace("{related}", _related(context.get("related"), tree)) + _written(path, tree)
    if kind == "missing":
        return "is required"
    if value is None and kind != "union_tag_not_found":
        return "has no value; write one, or take the key out"
    if kind == "string_type" and isinstance(value, int | float):
        return f"expected text{got}; put it in quotes"
    if kind in _PLAIN:
        return _PLAIN[kind] + got
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        bound = next(context[name] for name in ("ge", "le", "gt", "lt") if name in context)
        words = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}
        name = next(name for name in words if name in context)
        return f"must be {words[name]} {_bound(bound, value)}{got}"
    if kind in ("literal_error", "union_tag_invalid"):
        return _one_of(str(context.get("expected") or context.get("expected_tags")), value, got)
    if kind == "union_tag_not_found":
        return "is required: openai-compatible, recorded or scripted"
    if kind == "string_pattern_mismatch":
        return f"has characters that are not allowed here (allowed: {context['pattern']}){got}"
    if kind == "too_short":
        return "needs at least one entry"
    return f"is not valid{got}"


def _one_of(expected: str, value: Any, got: str) -> str:
    options = [option.strip(" '\"") for option in expected.replace(" or ", ",").split(",")]
    expected = options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"
    return f"expected {expected}{got}" + did_you_mean(str(value), options)


def _path_of(location: tuple[int | str, ...], tree: Tree) -> Path:
    """The path in the file: without the positions that the model puts in for the forms that a value may have."""
    path: Path = ()
    for index, key in enumerate(location):
        value = tree.get(path)
        inside = isinstance(value, dict) and key in value
        inside = inside or (isinstance(value, list) and isinstance(key, int) and key < len(value))
        last_and_missing = index == len(location) - 1 and isinstance(value, dict)
        known = last_and_missing or (isinstance(value, dict) and _is_key(path, key, tree))
        if inside or known:
            path = (*path, key)
    return path


def _is_key(path: Path, key: int | str, tree: Tree) -> bool:
    section = shape.section_of(place_of(path, tree), tree.get(path))
    return section is not None and key in shape.keys_of(section)


def _related(path: Path | None, tree: Tree) -> str:
    origin = tree.origins.get(path) if path else None
    return f", line {origin.position.line}" if origin is not None and origin.position is not None else ""


def _shown(value: Any, path: Path) -> str:
    """`, got 'x'`, unless that might show a secret or a whole section."""
    if isinstance(value, (dict, list)):
        return f", got a {'mapping' if isinstance(value, dict) else 'list'}"
    if value is None or isinstance(value, SecretStr) or any(is_secret_name(str(key)) for key in path):
        return ""
    text = str(value)
    return f", got '{text}'" if len(text) <= LONGEST_SHOWN + 3 else f", got '{text[:LONGEST_SHOWN]}...'"


def _written(path: Path, tree: Tree) -> str:
    origin = tree.origins.get(path)
    if origin is None or origin.position is None:
        return f" (from {origin.label})" if origin is not None else ""
    return f" (written as {origin.written})" if origin.written else ""


def _bound(bound: float, value: Any) -> str:
    """The bound in the terms of the value: `1d` for a duration, `1KiB` for a size."""
    unit = str(value).strip()[-1:]
    if not unit.isalpha():
        return _number(bound)
    return format_size(int(bound)) if unit in "bB" else format_duration(bound)


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 10_000 else f"{value:.0f}"
