"""From Python values to what JSON can say, and back from the tags: the part of the wire format that any value may need."""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

from flowcraft_sdk.errors import SerializationError

MAX_DEPTH = 254
"""Levels of nesting that a value may have; orjson writes no more either."""

MOST_DIGITS = 4300
"""Digits that a whole number may have; Python reads no more."""

_MOST_BITS = int(MOST_DIGITS * math.log2(10))

READERS: Mapping[str, Callable[[Any], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$uuid": UUID,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
}


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's parser would let in."""
    raise ValueError(f"{name} is not JSON")


def plain(value: Any, path: str) -> Any:
    """A value as dicts, lists, texts, numbers, booleans and None, tags included.

    Raises:
        SerializationError: it holds something that cannot be stored; the message names where.
    """
    return _plain(value, path, 0, set())


def _plain(value: Any, path: str, depth: int, above: set[int]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, path, depth, above)
    if isinstance(value, str | int | float):
        return _scalar(value, path)
    tagged = _tag(value, path)
    if tagged is not None:
        return tagged
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        return _plain(_dumped(value, path), path, depth, above)
    content = _content(value, path)
    if depth >= MAX_DEPTH:
        raise SerializationError(f"nested deeper than {MAX_DEPTH} levels", path)
    if id(value) in above:
        raise SerializationError("contains itself", path)
    above.add(id(value))
    try:
        if not isinstance(content, Mapping):
            items = []
            for index, item in enumerate(content):  # a loop, not a comprehension: one frame for each level
                items.append(_plain(item, f"{path}[{index}]", depth + 1, above))
            return items if isinstance(content, list | tuple) else sorted(items, key=json.dumps)
        fields = {}
        for key, item in content.items():
            name = _key(key, path)
            fields[name] = _plain(item, f"{path}.{name}", depth + 1, above)
    finally:
        above.discard(id(value))
    if len(fields) == 1 and next(iter(fields)).startswith("$"):
        return {"$object": [[key, item] for key, item in fields.items()]}
    return fields


def _scalar(value: str | int | float, path: str) -> Any:
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            raise SerializationError(f"a number of more than {MOST_DIGITS} digits", path)
        return int(value)
    if not math.isfinite(value):
        raise SerializationError(f"{value} has no JSON form", path)
    return float(value)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SerializationError("text with a lone surrogate is not valid UTF-8", path) from None
    return str(value)


def _key(key: Any, path: str) -> str:
    name = key.value if isinstance(key, Enum) else key
    if not isinstance(name, str):
        raise SerializationError(f"the key {name!r} is no text", path)
    return _text(name, path)


def _content(value: Any, path: str) -> Any:
    """What a container holds: a mapping, a sequence or a set."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    kind = type(value)
    raise SerializationError(f"{kind.__module__}.{kind.__qualname__} has no JSON form", path)


def _dumped(model: Any, path: str) -> Any:
    try:
        return model.model_dump(mode="python")
    except ValueError as error:  # pydantic's word for a model that contains itself
        raise SerializationError(str(error), path) from error


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
