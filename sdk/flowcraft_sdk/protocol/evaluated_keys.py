"""Which keys of an object the keywords of a JSON Schema have evaluated: what `unevaluatedProperties` leaves out.

As in jsonschema, but that patterns are searched for in linear time: payloads come from strangers.
"""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.protocol.linear_patterns import compile_linear
from flowcraft_sdk.protocol.schema_references import count_reference


def evaluated_keys(validator: Any, instance: Mapping[str, Any], schema: Any) -> set[str]:
    """The keys that a schema and its parts evaluate.

    Args:
        validator: a validator of jsonschema, by which parts are tried.

    Raises:
        PatternError: one of the patterns cannot be used.
    """
    if not validator.is_type(schema, "object"):
        return set()
    found = _by_own_keywords(validator, instance, schema)
    for keyword in ("$ref", "$dynamicRef"):
        if (reference := schema.get(keyword)) is not None:
            count_reference()
            resolved = validator._resolver.lookup(reference)
            inner = validator.evolve(schema=resolved.contents, _resolver=resolved.resolver)
            found |= evaluated_keys(inner, instance, resolved.contents)
    for part in _applied(validator, instance, schema):
        found |= evaluated_keys(validator, instance, part)
    return found


def _by_own_keywords(validator: Any, instance: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    found = set(instance) & set(schema.get("properties", {}))
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if (wanted := schema.get(keyword)) is not None:
            found |= {name for name, value in instance.items() if _fits(validator, value, wanted)}
    for text in schema.get("patternProperties", ()):
        pattern = compile_linear(text)
        found |= {name for name in instance if pattern.search(name)}
    return found


def _applied(validator: Any, instance: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Any]:
    """The parts of a schema that apply to the same object and hold for it."""
    parts = [part for name, part in schema.get("dependentSchemas", {}).items() if name in instance]
    for keyword in ("allOf", "oneOf", "anyOf"):
        parts += [part for part in schema.get(keyword, ()) if _fits(validator, instance, part)]
    if "if" in schema:
        holds = _fits(validator, instance, schema["if"])
        if holds:
            parts.append(schema["if"])
        branch = "then" if holds else "else"
        if branch in schema:
            parts.append(schema[branch])
    return parts


def _fits(validator: Any, value: Any, part: Any) -> bool:
    return next(iter(validator.descend(value, part)), None) is None
