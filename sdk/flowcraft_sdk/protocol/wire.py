"""Values as JSON text. What JSON has no form for gets a one-key tag; what cannot be stored is refused with its path.

Tags: $decimal, $datetime, $date, $time, $timedelta (seconds), $uuid, $bytes (base64); a user's object with a single
key that starts with `$` is wrapped as {"$object": [[key, value]]}, so that it comes back as it was.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from flowcraft_sdk.errors import PayloadTooLargeError, SerializationError

try:
    import orjson
except ImportError:  # the SDK needs nothing but redis and pydantic
    orjson = None  # type: ignore[assignment]

MAX_DEPTH = 100
"""Levels of nesting that a value may have."""

_PLAIN = (str, bool, int, float, type(None))


def dumps(value: Any, *, path: str = "value", limit: int | None = None) -> bytes:
    """Encode a value.

    Args:
        value: JSON values, pydantic models, dataclasses, enums, tuples, sets, and the types that have tags.
        path: how the value is called in error messages.
        limit: the most bytes it may take.

    Raises:
        SerializationError: it holds something that cannot be stored; the message names where.
        PayloadTooLargeError: it is larger than `limit`.
    """
    encoded = _fast(value)
    if encoded is None:
        plain = _prepare(value, path, 0, set())
        encoded = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if limit is not None and len(encoded) > limit:
        raise PayloadTooLargeError(path, len(encoded), limit)
    return encoded


def loads(data: bytes | str) -> Any:
    """Decode a value that `dumps` encoded, or any JSON text."""
    if orjson is not None:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = json.loads(data)
        if _may_exceed_64_bits(data):
            value = json.loads(data)
    else:
        value = json.loads(data)
    has_tag = b'"$' in data if isinstance(data, bytes) else '"$' in data
    return _revive(value) if has_tag else value


def _may_exceed_64_bits(data: bytes | str) -> bool:
    """orjson reads whole numbers beyond 64 bits as floats; 20 digits in a row are looked at again."""
    if len(data) < 20:
        return False
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    run = 0
    for char in text if len(text) < 64 else _digit_runs(text):
        run = run + 1 if char.isdigit() else 0
        if run >= 19:
            return True
    return False


def _digit_runs(text: str) -> str:
    import re

    return " ".join(re.findall(r"\d{19,}", text))


def _fast(value: Any) -> bytes | None:
    """orjson's encoding where it is the same as the slow one's; None where it might not be."""
    if orjson is None:
        return None
    try:
        encoded: bytes = orjson.dumps(
            value,
            option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS,
        )
    except (TypeError, ValueError, RecursionError):
        return None
    if type(value) in (str, int, bool):
        return encoded
    if b"null" in encoded or b'"$' in encoded or encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
        return None  # NaN became null, an object may need a wrapper, it may be nested too deep: look closely
    if b"-" in encoded and isinstance(value, UUID):
        return None
    return None if _has_foreign(value) else encoded


def _has_foreign(value: Any) -> bool:
    """Enums and UUIDs are encoded by orjson in its own way."""
    if type(value) in _PLAIN:
        return False
    if type(value) is list:
        return any(_has_foreign(item) for item in value)
    if type(value) is dict:
        return any(_has_foreign(item) for item in value.values())
    return True


def _prepare(value: Any, path: str, depth: int, above: set[int]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _prepare(value.value, path, depth, above)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SerializationError(f"{value} has no JSON form", path)
        return float(value)
    tagged = _tag(value, path)
    if tagged is not None:
        return tagged
    return _container(value, path, depth, above)


def _container(value: Any, path: str, depth: int, above: set[int]) -> Any:
    if depth >= MAX_DEPTH:
        raise SerializationError(f"nested deeper than {MAX_DEPTH} levels", path)
    if id(value) in above:
        raise SerializationError("contains itself", path)
    above = above | {id(value)}
    if isinstance(value, Mapping):
        return _object(value, path, depth, above)
    if isinstance(value, list | tuple):
        return [_prepare(item, f"{path}[{i}]", depth + 1, above) for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [_prepare(item, f"{path}[]", depth + 1, above) for item in sorted(value, key=repr)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _object(fields, path, depth, above)
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        return _object(value.model_dump(mode="python"), path, depth, above)
    kind = type(value)
    raise SerializationError(f"{kind.__module__}.{kind.__qualname__} has no JSON form", path)


def _object(value: Mapping[Any, Any], path: str, depth: int, above: set[int]) -> Any:
    plain = {}
    for key, item in value.items():
        if isinstance(key, Enum):
            key = key.value
        if not isinstance(key, str):
            raise SerializationError(f"the key {key!r} is no text", path)
        plain[_text(key, path)] = _prepare(item, f"{path}.{key}", depth + 1, above)
    if len(plain) == 1 and next(iter(plain)).startswith("$"):
        return {"$object": [[key, item] for key, item in plain.items()]}
    return plain


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SerializationError("text with a lone surrogate is not valid UTF-8", path) from error
    return str(value)


def _tag(value: Any, path: str) -> dict[str, Any] | None:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise SerializationError("a datetime without a time zone; give it one", path)
        return {"$datetime": value.isoformat()}
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise SerializationError(f"{value} has no JSON form", path)
        return {"$decimal": str(value)}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, time):
        return {"$time": value.isoformat()}
    if isinstance(value, timedelta):
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, UUID):
        return {"$uuid": str(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    return None


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$uuid": UUID,
    "$bytes": base64.b64decode,
}


def _revive(value: Any) -> Any:
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag == "$object" and isinstance(inner, list):
            return {key: _revive(item) for key, item in inner}
        reader = _READERS.get(tag)
        if reader is not None:
            try:
                return reader(inner)
            except (ValueError, TypeError, ArithmeticError):
                return value
    return {key: _revive(item) for key, item in value.items()}
