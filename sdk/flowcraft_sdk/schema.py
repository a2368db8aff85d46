"""Whether a payload fits the JSON Schema that a waiting node declares."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.linear_patterns import PatternError, compile_linear

MOST_MISFITS = 20

UNBOUNDED = (
    "unevaluatedProperties cannot be used with patternProperties: jsonschema would search for the patterns in a way that "
    "can take for ever; use additionalProperties"
)

_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
"""Keywords whose keys are names that the schema's author chose, not keywords."""


def schema_misfits(payload: Any, schema: Any) -> list[dict[str, Any]]:
    """All that is wrong with a payload; nothing is fetched, so a schema can refer to its own parts only.

    Raises:
        ConfigurationError: the package `jsonschema` is not installed, or the schema itself cannot be used.
    """
    try:
        import jsonschema
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
        from referencing.exceptions import Unresolvable

        validator = schema_validator(jsonschema)
    except ImportError:
        message = "the node checks its answers by a schema, which needs jsonschema: pip install 'flowcraft-sdk[schema]'"
        raise ConfigurationError(message) from None
    try:
        if _unbounded(schema):
            raise PatternError(UNBOUNDED)
        validator.check_schema(schema)
        found = list(islice(validator(schema, registry=Registry()).iter_errors(payload), MOST_MISFITS))
    except (SchemaError, Unresolvable, PatternError, RecursionError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise ConfigurationError(f"the schema of the waiting node cannot be used: {reason}") from None
    return [
        {"loc": ("payload", *error.absolute_path), "type": str(error.validator), "msg": _shortened(error.message)}
        for error in sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    ]


def _unbounded(schema: Any) -> bool:
    """Whether jsonschema would search for a pattern of the schema with Python's own engine, to see what is evaluated."""
    used: set[str] = set()
    pending = [(schema, False)]
    while pending:
        part, named = pending.pop()
        if isinstance(part, Mapping):
            if not named:
                used.update(word for word in ("unevaluatedProperties", "patternProperties") if word in part)
            pending += [(value, not named and key in _NAMED) for key, value in part.items()]
        elif isinstance(part, list | tuple):
            pending += [(item, False) for item in part]
    return len(used) == 2


def unusable_pattern(schema: Any) -> str | None:
    """Why a pattern in a schema cannot be used, None if all can.

    Raises:
        ImportError: google-re2 is not installed.
    """
    if _unbounded(schema):
        return UNBOUNDED
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            patterns = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
            if isinstance(part.get("patternProperties"), Mapping):
                patterns += part["patternProperties"]
            for pattern in patterns:
                try:
                    compile_linear(pattern)
                except PatternError as error:
                    return f"the pattern {pattern!r:.80} cannot be used: {error}"
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part
    return None


@cache
def schema_validator(jsonschema: Any) -> Any:
    """The validator of JSON Schema 2020-12, whose patterns are searched for in linear time: payloads come from strangers.

    Raises:
        ImportError: jsonschema or google-re2 is not installed.
    """
    import attrs
    import re2  # type: ignore[import-untyped] # noqa: F401 - without it patterns would be searched for in another way

    def pattern(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(instance, "string") and not compile_linear(wanted).search(instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {wanted!r}")

    def pattern_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not validator.is_type(instance, "object"):
            return
        for text, subschema in wanted.items():
            compiled = compile_linear(text)
            for name, value in instance.items():
                if compiled.search(name):
                    yield from validator.descend(value, subschema, path=name, schema_path=text)

    def additional(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not validator.is_type(instance, "object"):
            return
        patterns = [compile_linear(text) for text in schema.get("patternProperties", ())]
        known = schema.get("properties", {})
        extras = [n for n in instance if n not in known and not any(found.search(n) for found in patterns)]
        if validator.is_type(wanted, "object"):
            for name in extras:
                yield from validator.descend(instance[name], wanted, path=name)
        elif not wanted and extras:
            yield jsonschema.ValidationError(
                f"additional properties are not allowed: {', '.join(map(repr, extras[:5]))}"
            )

    keywords = {"pattern": pattern, "patternProperties": pattern_properties, "additionalProperties": additional}
    linear = jsonschema.validators.extend(jsonschema.Draft202012Validator, keywords)

    def evolve(self: Any, **changes: Any) -> Any:
        """This validator for a part of the schema: the part's `$schema` would bring one that knows no linear patterns."""
        kept = {each.alias: getattr(self, each.name) for each in attrs.fields(linear) if each.init}
        return linear(**{**kept, **changes})

    linear.evolve = evolve
    return linear


def _shortened(message: str, most: int = 300) -> str:
    return message if len(message) <= most else message[: most - 3] + "..."
