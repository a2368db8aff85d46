"""Whether a payload fits the JSON Schema that a waiting node declares."""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import misfits
from flowcraft_sdk.protocol.evaluated_keys import evaluated_keys
from flowcraft_sdk.protocol.linear_patterns import PatternError, compile_linear
from flowcraft_sdk.protocol.misfits import expected
from flowcraft_sdk.protocol.schema_references import errors_of, follow

MOST_MISFITS = 20
MOST_KEYS_SHOWN = 8

_EXPECTED = {
    "const": "{wanted}",
    "minimum": "a number of at least {wanted}",
    "maximum": "a number of at most {wanted}",
    "exclusiveMinimum": "a number above {wanted}",
    "exclusiveMaximum": "a number below {wanted}",
    "multipleOf": "a multiple of {wanted}",
    "minLength": "a text of at least {wanted} {character}",
    "maxLength": "a text of at most {wanted} {character}",
    "pattern": "a text that matches {wanted}",
    "format": "a text of the format {wanted}",
    "minItems": "a list of at least {wanted} {item}",
    "maxItems": "a list of at most {wanted} {item}",
    "uniqueItems": "a list without equal items",
    "contains": "a list with an item that fits the schema's 'contains'",
    "minContains": "a list with at least {wanted} {item} that {fit} the schema's 'contains'",
    "maxContains": "a list with at most {wanted} {item} that {fit} the schema's 'contains'",
    "items": "a list without further items",
    "unevaluatedItems": "a list without further items",
    "unevaluatedProperties": "an object without further keys",
    "minProperties": "an object of at least {wanted} {key}",
    "maxProperties": "an object of at most {wanted} {key}",
    "not": "a value that the schema's 'not' leaves out",
}
"""What is expected where a keyword does not hold, which jsonschema writes with Python's own forms of values."""
_OURS = frozenset(("required", "additionalProperties", "dependentRequired"))
"""Keywords that are checked here, with messages in our words."""


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
        validator.check_schema(schema)
        found = errors_of(validator(schema, registry=Registry()), payload, MOST_MISFITS)
    except (SchemaError, Unresolvable, PatternError, RecursionError) as error:
        reason = unusable(error) if isinstance(error, SchemaError) else str(error)
        raise ConfigurationError(f"the schema of the waiting node cannot be used: {reason}") from None
    return [
        {"loc": ("payload", *error.absolute_path), "type": str(error.validator), "msg": complaint(error)}
        for error in sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    ]


def unusable(error: Any) -> str:
    """Why a schema is none, with the path in it.

    Args:
        error: a `jsonschema.SchemaError`.
    """
    place = written_path(tuple(error.absolute_path))
    return f"{place}: {complaint(error)}" if place else complaint(error)


def complaint(error: Any) -> str:
    """What is wrong with a value in our own words: what was expected, what was found.

    Args:
        error: a `jsonschema.ValidationError` or `SchemaError`.
    """
    return _shortened(_message_of(error))


def _message_of(error: Any) -> str:
    keyword, wanted, value = error.validator, error.validator_value, error.instance
    if keyword in _EXPECTED:
        words = {name: name if wanted == 1 else f"{name}s" for name in ("character", "item", "key")}
        words["fit"] = "fits" if wanted == 1 else "fit"
        return expected(_EXPECTED[keyword].format(wanted=misfits.found(wanted), **words), value)
    if keyword == "type":
        return expected(_kinds(wanted), value)
    if keyword == "enum":
        return expected(misfits.choices(wanted), value)
    if keyword in ("anyOf", "oneOf"):
        return _none_of(error, value)
    if keyword in _OURS:
        return str(error.message)
    if keyword is None:
        return f"no value is allowed here, got {misfits.found(value)}"
    return expected(f"what the schema's '{keyword}' asks for", value)


def _none_of(error: Any, value: Any) -> str:
    """The alternatives of `anyOf` and `oneOf`: what each expects of the value itself, else what is wrong in the nearest one."""
    if not error.context:
        return f"fits more than one of the schema's alternatives, got {misfits.found(value)}"
    own = [inner for inner in error.context if not inner.relative_path]
    if len(own) == len(error.context) and all(inner.validator in ("type", "enum", "const") for inner in own):
        kinds = [
            _kinds(inner.validator_value) if inner.validator == "type"
            else misfits.choices(inner.validator_value if inner.validator == "enum" else [inner.validator_value])
            for inner in own
        ]  # fmt: skip
        return expected(" or ".join(dict.fromkeys(kinds)), value)
    nearest = max(error.context, key=lambda inner: len(inner.relative_path))
    place = written_path(tuple(nearest.relative_path))
    return f"fits none of the schema's alternatives, such as {place + ': ' if place else ''}{_message_of(nearest)}"


def _kinds(wanted: Any) -> str:
    return " or ".join(map(str, wanted)) if isinstance(wanted, list | tuple) else str(wanted)


def unusable_pattern(schema: Any) -> str | None:
    """Why a pattern in a schema cannot be used, None if all can.

    Raises:
        ImportError: google-re2 is not installed.
    """
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
    """The validator of JSON Schema 2020-12, comparing items and looking for patterns in linear time: strangers send payloads.

    Raises:
        ImportError: jsonschema or google-re2 is not installed.
    """
    import attrs
    import re2  # type: ignore[import-untyped] # noqa: F401 - without it patterns would be searched for in another way

    def pattern(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(instance, "string") and not compile_linear(wanted).search(instance):
            yield jsonschema.ValidationError("")  # `complaint` says it

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
            for name in extras:
                message = f"is no key that is expected here{_known_keys(name, known)}"
                yield jsonschema.ValidationError(message, path=(name,))

    def unevaluated(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not validator.is_type(instance, "object"):
            return
        evaluated = evaluated_keys(
            validator, instance, {key: part for key, part in schema.items() if key != "unevaluatedProperties"}
        )
        for name, value in instance.items():
            if name not in evaluated and next(iter(validator.descend(value, wanted)), None) is not None:
                yield jsonschema.ValidationError("")  # `complaint` says it
                return

    def required(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for name in wanted if validator.is_type(instance, "object") else ():
            if name not in instance:
                inner = schema.get("properties", {}).get(name)
                kind = inner.get("type") if isinstance(inner, Mapping) else None
                message = "is missing" + (f", expected {_kinds(kind)}" if kind is not None else "")
                yield jsonschema.ValidationError(message, path=(name,))

    def dependent(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for given, names in wanted.items() if validator.is_type(instance, "object") else ():
            for name in names if given in instance else ():
                if name not in instance:
                    yield jsonschema.ValidationError(f"is missing, which '{given}' needs", path=(name,))

    def unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if (
            wanted
            and validator.is_type(instance, "array")
            and len({_comparable(item) for item in instance}) < len(instance)
        ):
            yield jsonschema.ValidationError("")  # `complaint` says it

    keywords = {
        "$ref": follow,
        "$dynamicRef": follow,
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional,
        "unevaluatedProperties": unevaluated,
        "required": required,
        "dependentRequired": dependent,
        "uniqueItems": unique_items,
    }
    linear = jsonschema.validators.extend(jsonschema.Draft202012Validator, keywords)

    def evolve(self: Any, **changes: Any) -> Any:
        """This validator for a part of the schema: the part's `$schema` would bring one that knows no linear patterns."""
        kept = {each.alias: getattr(self, each.name) for each in attrs.fields(linear) if each.init}
        return linear(**{**kept, **changes})

    linear.evolve = evolve
    return linear


def _comparable(value: Any) -> Any:
    """What two values have in common if they are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, list | tuple):
        return "list", tuple(map(_comparable, value))
    if isinstance(value, Mapping):
        return "object", frozenset((name, _comparable(item)) for name, item in value.items())
    return "boolean" if isinstance(value, bool) else "value", value


def _known_keys(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1) if len(name) <= misfits.LONGEST_FOUND else []
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; expected are {', '.join(islice(known, MOST_KEYS_SHOWN))}" if known else ""


def _shortened(message: str, most: int = 300) -> str:
    return message if len(message) <= most else message[: most - 3] + "..."
