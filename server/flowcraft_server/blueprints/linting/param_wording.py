"""What pydantic finds wrong with a handler's params, in the words of all other messages: what was expected, what was found."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowcraft_sdk.protocol.misfits import expected, found

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SUFFIX = re.compile(r"_(type|parsing|parsing_size|from_float|attributes_type|required)\Z")
_KINDS = {
    "int": "integer",
    "float": "number",
    "string": "string",
    "bool": "boolean",
    "dict": "object",
    "mapping": "object",
    "model": "object",
    "dataclass": "object",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "frozen_set": "array",
    "decimal": "number",
    "none": "null",
    "url": "a URL",
    "uuid": "a UUID",
    "date": "a date such as 2026-01-31",
    "datetime": "a time such as 2026-01-31T12:00:00Z",
    "time": "a time of day such as 12:00",
    "time_delta": "a duration such as PT5M or 300 (seconds)",
}
"""By pydantic's error types without `_SUFFIX`; the names of JSON's own types are those of blueprints' `inputs`."""
_BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "string_too_short": ("min_length", "a text of at least {} characters"),
    "string_too_long": ("max_length", "a text of at most {} characters"),
    "too_short": ("min_length", "at least {} entries"),
    "too_long": ("max_length", "at most {} entries"),
    "string_pattern_mismatch": ("pattern", "a text that matches '{}'"),
    "literal_error": ("expected", "{}"),
    "enum": ("expected", "{}"),
}


def param_misfit(details: "ErrorDetails") -> str:
    """What is wrong with a value, on one line."""
    value, shape = details["input"], shape_of(details)
    if shape is not None:
        return expected(shape, value)
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = f"{message[:1].lower()}{message[1:]}"
    return message if "got " in message else f"{message}, got {found(value)}"


def shape_of(details: "ErrorDetails") -> str | None:
    """What was expected of a value; None where pydantic only has a message."""
    kind = details["type"]
    context: Mapping[str, Any] = details.get("ctx") or {}
    if kind in _BOUNDS:
        name, shape = _BOUNDS[kind]
        return shape.format(context.get(name))
    return _KINDS.get(_SUFFIX.sub("", kind))


def is_of_another_kind(details: "ErrorDetails") -> bool:
    """Whether a value is none of the kind that was expected, as against one of the kind that breaks a rule of it."""
    kind = details["type"]
    return kind in ("literal_error", "enum") or _SUFFIX.sub("", kind) in _KINDS
