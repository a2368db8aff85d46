"""The start context: what may be given as one, and whether it fits the blueprint's `inputs`."""

import dataclasses
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.errors import ConfigurationError, InvalidInputError, SerializationError

RUN_ID = re.compile(r"^[A-Za-z0-9._:-]{1,200}$")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list, tuple),
    "list": (list, tuple),
}


def new_run_id() -> str:
    """A run id that sorts by the time it was made: 48 bits of ms and 64 random ones, 28 characters."""
    ms = int(time.time() * 1000)
    return f"{ms:012x}{secrets.token_hex(8)}"


def check_run_id(run_id: str) -> str:
    """The run id, if it is one.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(run_id, str) or not RUN_ID.match(run_id):
        raise ConfigurationError(f"a run id is 1 to 200 of A-Z a-z 0-9 . _ : -, got {run_id!r}")
    return run_id


def as_context(ctx: Any) -> dict[str, Any]:
    """A start context as a dict: None, a mapping, a dataclass or a pydantic model.

    Raises:
        SerializationError: it is something else, or a key is no text.
    """
    if ctx is None:
        return {}
    if dataclasses.is_dataclass(ctx) and not isinstance(ctx, type):
        return {field.name: getattr(ctx, field.name) for field in dataclasses.fields(ctx)}
    if hasattr(ctx, "model_dump") and hasattr(type(ctx), "model_fields"):
        return dict(ctx.model_dump())
    if not isinstance(ctx, Mapping):
        raise SerializationError(
            f"a context is a mapping, a dataclass or a pydantic model, got {type(ctx).__name__}", "ctx"
        )
    for key in ctx:
        if not isinstance(key, str):
            raise SerializationError(f"the key {key!r} is no text", "ctx")
    return dict(ctx)


def check_contract(blueprint_id: str, contract: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The context with defaults filled in.

    Raises:
        InvalidInputError: something is missing or has another type.
    """
    errors, filled = [], dict(values)
    for name, rule in contract.items():
        rule = {"type": rule} if isinstance(rule, str) else rule
        if name not in filled:
            if "default" in rule:
                filled[name] = rule["default"]
            elif rule.get("required", True):
                errors.append({"loc": name, "msg": "is missing"})
            continue
        wrong = _misfit(filled[name], rule)
        if wrong:
            errors.append({"loc": name, "msg": wrong})
    if errors:
        said = "; ".join(f"{error['loc']}: {error['msg']}" for error in errors)
        raise InvalidInputError(f"the context does not fit blueprint '{blueprint_id}': {said}", errors)
    return filled


def _misfit(value: Any, rule: Mapping[str, Any]) -> str:
    kinds = _TYPES.get(str(rule.get("type", "any")))
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        return f"expected {rule['type']}, got {type(value).__name__}"
    if rule.get("enum") and value not in rule["enum"]:
        return f"expected one of {', '.join(map(repr, rule['enum']))}, got {value!r}"
    return ""
