"""Where a path leads in values that a JSON Schema describes: to others it describes, nowhere, or to what it leaves open. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Part = tuple[Any, Any]
"""A schema, and the whole one that its references are about."""

Shape = tuple[Part, ...]
"""The schemas of which a value fits one."""


@dataclass(frozen=True, slots=True)
class Held:
    """In place of a schema: what is described by parts of others, with their references; None if it is not known."""

    shape: Shape | None


_NOT_READ = frozenset((
    "allOf", "not", "if", "then", "else", "$dynamicRef", "patternProperties", "dependentSchemas", "unevaluatedProperties",
    "unevaluatedItems", "prefixItems", "contains", "propertyNames",
))  # fmt: skip
"""Keywords with which no more is known."""
_BESIDE_REFERENCE = frozenset(("$ref", "$defs", "definitions", "title", "description", "default", "examples"))
_KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")
_MOST_PARTS = 200


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Why a path leads nowhere.

    Attributes:
        at: how many of its parts do lead somewhere.
        kind: what stands there: `object`, `array`, or another type of JSON Schema.
        names: the keys that an object has there.
        certain: false if other keys are allowed there: only what looks misspelt is worth a word.
    """

    at: int
    kind: str
    names: tuple[str, ...] = ()
    certain: bool = True


def shape_of(schema: Any) -> Shape:
    """The shape that a whole schema describes."""
    return ((schema, schema),)


def walk_shape(shape: Shape, parts: Sequence[str], *, lengths: bool) -> Shape | Nowhere | None:
    """Follow a path.

    Args:
        lengths: whether `length` is there of lists and texts, as it is for expressions.

    Returns:
        What it leads to; why it leads nowhere; None if that is not known.
    """
    for at, name in enumerate(parts):
        found = _step(shape, name, lengths)
        if isinstance(found, Nowhere):
            return Nowhere(at, found.kind, found.names, found.certain)
        if found is None:
            return None
        shape = found
    return shape


def _step(shape: Shape, name: str, lengths: bool) -> Shape | Nowhere | None:
    found: list[Part] = []
    names: dict[str, None] = {}
    kinds: dict[str, None] = {}
    certain = True
    for kind, schema, root in _alternatives(shape):
        if kind is None:
            return None
        if kind != "null":
            kinds[kind] = None
        if kind == "object":
            properties = schema.get("properties")
            known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
            others = schema.get("additionalProperties", True)
            if name in known:
                found.append((known[name], root))
            elif isinstance(others, Mapping):
                found.append((others, root))
            elif others is not False and not known:
                return None
            else:
                certain = certain and others is False
                names.update(dict.fromkeys(map(str, known)))
        elif kind == "array" and name.removeprefix("-" if lengths else "").isdigit():
            if "items" not in schema:
                return None
            found.append((schema["items"], root))
        elif kind in ("array", "string") and lengths and name == "length":
            found.append(({"type": "integer"}, root))
    if found:
        return tuple(found) if certain else None
    kind = "object" if "object" in kinds else next(iter(kinds), "null")
    return Nowhere(0, kind, tuple(names), certain)


def _alternatives(shape: Shape) -> Iterator[tuple[str | None, Any, Any]]:
    """Each type that a value may have, with its schema; None as the type where nothing is known."""
    pending = list(shape)
    seen: set[int] = set()
    while pending:
        schema, root = pending.pop(0)
        if schema is False:
            continue
        if isinstance(schema, Held) and schema.shape is not None:
            pending = [*schema.shape, *pending]
            continue
        if not isinstance(schema, Mapping) or len(seen) > _MOST_PARTS or _NOT_READ & schema.keys():
            yield None, schema, root
            return
        if id(schema) in seen:
            continue
        seen.add(id(schema))
        inner = _inner(schema, root)
        if inner is not None:
            pending = [*((each, root) for each in inner), *pending]
            continue
        for kind in _kinds(schema):
            yield kind, schema, root


def _inner(schema: Mapping[str, Any], root: Any) -> list[Any] | None:
    """What stands for a schema that refers to another one, or to several of which one is meant."""
    if "$ref" in schema:
        return [_referred(schema["$ref"], root) if schema.keys() <= _BESIDE_REFERENCE else True]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            known = isinstance(schema[keyword], list) and not {"properties", "items", "enum", "const"} & schema.keys()
            return list(schema[keyword]) if known and ("anyOf" in schema) != ("oneOf" in schema) else [True]
    return None


def _referred(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found = root
    for part in reference[1:].split("/")[1:]:
        if not isinstance(found, Mapping) or part not in found:
            return True
        found = found[part]
    return found


def _kinds(schema: Mapping[str, Any]) -> Collection[str | None]:
    written = schema.get("type")
    kinds = [written] if isinstance(written, str) else written if isinstance(written, list) else None
    if kinds is None:
        return ("object",) if "properties" in schema else (None,)
    return [kind if kind in _KINDS else None for kind in kinds]
