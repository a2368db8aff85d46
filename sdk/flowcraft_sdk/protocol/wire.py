"""Values as JSON text. What JSON has no form for gets a one-key tag; what cannot be stored is refused with its path.

Tags: $decimal, $datetime, $date, $time, $timedelta (days, seconds, microseconds), $uuid, $bytes (base64); a user's object
whose single key starts with `$` is wrapped as {"$object": [[key, value]]}, so that it comes back as it was.
Decoded values are the same with and without orjson; the text may differ in how it writes a float.
"""

import json
from typing import Any

from flowcraft_sdk.errors import PayloadTooLargeError
from flowcraft_sdk.protocol.value_size import DEEPEST, LARGEST_VALUE, least_size
from flowcraft_sdk.protocol.wire_values import READERS, plain, refuse_constant

try:
    import orjson
except ImportError:  # the SDK needs nothing but redis and pydantic
    orjson = None  # type: ignore[assignment]

__all__ = ["DEEPEST", "dumps", "loads", "revive"]

SPARE = 16 * 1024 * 1024
"""Bytes over its limit up to which a value is written all the same, so that the error gives its size."""

_DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
_HEX_DIGITS = bytes(ord("0") if byte in b"0123456789abcdef" else byte for byte in range(256))
_LONG_NUMBER = b"0" * 19
NULL = b"null"
_UUID_TEXT = b'"00000000-0000-'


def dumps(value: Any, *, path: str = "value", limit: int | None = None) -> bytes:
    """Encode a value.

    Args:
        value: JSON values, pydantic models, dataclasses, enums, tuples, sets, and the types that have tags.
        path: how the value is called in error messages.
        limit: the most bytes it may take; None for what Redis can store.

    Raises:
        SerializationError: it holds something that cannot be stored; the message names where.
        PayloadTooLargeError: it is larger than `limit`.
    """
    if value is None:
        return NULL  # no limit is smaller
    most = LARGEST_VALUE if limit is None else limit
    written = most + SPARE
    size = least_size(value, written, path)
    if size > written:
        raise PayloadTooLargeError(path, size, most)
    encoded = _fast(value) if orjson is not None else None
    if encoded is None:
        json_value = plain(value, path, most, SPARE)
        encoded = json.dumps(json_value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(encoded) > most:
        raise PayloadTooLargeError(path, len(encoded), most)
    return encoded


def loads(data: bytes | str) -> Any:
    """Decode a value that `dumps` encoded, or any JSON text.

    Raises:
        ValueError: it is not JSON.
    """
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if text == NULL:
        return None
    value = _parse(text)
    return _revive(value) if b'"$' in text and isinstance(value, list | dict) else value


def revive(value: Any) -> Any:
    """JSON values with the tags of `dumps` as what they stand for; containers are changed in place."""
    return _revive(value) if isinstance(value, list | dict) else value


def _parse(data: bytes) -> Any:
    # orjson reads whole numbers beyond 64 bits as floats
    if orjson is not None and (len(data) < 19 or _LONG_NUMBER not in data.translate(_DIGITS)):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # too deep for it, or no JSON at all
    return json.loads(data, parse_constant=refuse_constant)


def _fast(value: Any) -> bytes | None:
    """Encode with orjson where it means what the slow one means; None where it might not.

    What orjson writes in its own way leaves a trace in the text: NaN becomes null, a UUID becomes a text of its shape,
    and an object that needs a wrapper has a key that starts with `$`. Only then the value itself is gone through.
    """
    try:
        encoded: bytes = orjson.dumps(
            value,
            option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS,
        )
    except (TypeError, ValueError, RecursionError):
        return None
    suspicious = (
        b"null" in encoded or b'"$' in encoded or (b"-" in encoded and _UUID_TEXT in encoded.translate(_HEX_DIGITS))
    )
    return None if suspicious and not _harmless(value) else encoded


def _harmless(value: Any) -> bool:
    """Whether a value that orjson could encode holds nothing but JSON's own types, finite, and needs no wrapper."""
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is float:
            if item - item != 0.0:  # NaN or infinite
                return False
        elif kind is list or kind is tuple:
            stack.extend(item)
        elif kind is dict:
            if len(item) == 1 and next(iter(item)).startswith("$"):
                return False
            stack.extend(item.values())
        elif kind not in (str, int, bool) and item is not None:
            return False
    return True


def _revive(value: Any) -> Any:
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list | dict):
                value[index] = _revive(item)
        return value
    if len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag == "$object" and _is_pairs(inner):
            return {key: _revive(item) if isinstance(item, list | dict) else item for key, item in inner}
        reader = READERS.get(tag)
        if reader is not None:
            try:
                return reader(inner)
            except (ValueError, TypeError, ArithmeticError):
                return value  # another writer's object that happens to look like a tag
    for key, item in value.items():
        if isinstance(item, list | dict):
            value[key] = _revive(item)
    return value


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )
