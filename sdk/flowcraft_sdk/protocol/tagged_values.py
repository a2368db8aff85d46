"""How values of users travel between the HTTP API and the SDK: with the tags of `wire`, so that they come back as they were.

Other callers get JSON without tags. Both sides take from here which members of records hold such values.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.wire_values import plain

HEADER, TAGGED = "flowcraft-values", "tagged"
"""The header of a request that has tags in its body and wants them in the answer, and its value."""

MEMBERS = frozenset({"ctx", "output", "memo", "data", "prompt", "details"})
"""Members of records that hold values of users."""


def json_values(value: Any) -> Any:
    """A value without tags, as JSON values; what JSON has no form for becomes a text."""
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="null", fallback=str)


def tagged(value: Any) -> Any:
    """A record as JSON values, values of users in it with tags."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {str(name): plain(item, str(name)) if name in MEMBERS else tagged(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [tagged(item) for item in value]
    return json_values(value)


def untagged(value: Any) -> Any:
    """What `tagged` was given, as far as it is no record: JSON values, and values of users out of their tags."""
    if isinstance(value, list):
        return [untagged(item) for item in value]
    if isinstance(value, dict):
        return {name: wire.revive(item) if name in MEMBERS else untagged(item) for name, item in value.items()}
    return value
