"""From Python values to what JSON can say, and back from the tags: the part of the wire format that any value may need."""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

from flowcraft_sdk.errors import PayloadTooLargeError, SerializationError
from flowcraft_sdk.protocol.bounds import shown
from flowcraft_sdk.protocol.value_size import DEEPEST, LARGEST_VALUE

MOST_DIGITS = 4300
"""Digits that a whole number may have; Python reads no more."""

LONGEST_KEY_SHOWN = 100
"""Characters of a key in the path of an error message."""

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


MOST_FOREIGN_ITEMS = 100_000
"""Items that all containers with code of their own may give in one value, beyond what they hold as a dict, list or set: such
code may never end."""

_SEQUENCES = (list, tuple, set, frozenset)

_Place = tuple[Any, str | int]
"""Where a value stands: the place of what holds it, and its key or index there. Put into words when it is needed."""


class _Encoding:
    """What is left of the bounds of one value.

    Args:
        path: how the value is called in error messages.
        most: bytes that it may take as JSON.
        spare: bytes more that are written.
    """

    __slots__ = ("above", "all", "deepest", "done", "items_left", "left", "most", "path")

    def __init__(self, path: str, most: int, spare: int) -> None:
        self.path = path
        self.most = most
        self.all = self.left = most + spare
        self.items_left = MOST_FOREIGN_ITEMS
        self.above: set[int] = set()
        self.deepest = 0
        self.done: dict[int, tuple[Any, Any, int, int]] = {}

    def take(self, size: int) -> None:
        """Count bytes that the value takes at least."""
        self.left -= size
        if self.left < 0:
            raise PayloadTooLargeError(self.path, self.all - self.left, self.most)

    def bounded(self, items: Iterable[Any], value: Any, place: _Place) -> Iterator[Any]:
        """The items that a container's own code gives, as long as they are not too many."""
        allowed = _base_length(value)  # an honest one gives as many as it has
        for item in items:
            if allowed > 0:
                allowed -= 1
            elif self.items_left > 0:
                self.items_left -= 1
            else:
                raise SerializationError(
                    f"{_name_of(type(value))} gives more than {MOST_FOREIGN_ITEMS:,} items when it is gone through",
                    _words(place),
                )
            yield item


def plain(value: Any, path: str, most: int = LARGEST_VALUE, spare: int = 0) -> Any:
    """A value as dicts, lists, texts, numbers, booleans and None, tags included.

    Args:
        most: bytes that it may take as JSON.
        spare: bytes more at which it is refused; until then the caller does that.

    Raises:
        SerializationError: it holds something that cannot be stored; the message names where.
        PayloadTooLargeError: it is larger than that.
    """
    return _plain(value, (None, path), 0, _Encoding(path, most, spare))


def _words(place: _Place) -> str:
    parts: list[str] = []
    above: Any = place
    while above is not None:
        above, key = above
        parts.append(f"[{key}]" if isinstance(key, int) else key if above is None else f".{shortened(key)}")
    return "".join(reversed(parts))


def shortened(key: str) -> str:
    """A key as it stands in the path of an error message."""
    return key if len(key) <= LONGEST_KEY_SHOWN else key[:LONGEST_KEY_SHOWN] + "..."


def _plain(value: Any, place: _Place, depth: int, encoding: _Encoding) -> Any:
    if value is None or isinstance(value, bool):
        encoding.take(4)
        return value
    if depth > DEEPEST:
        raise SerializationError(f"nested deeper than {DEEPEST} levels", _words(place))
    if isinstance(value, Enum):
        return _plain(value.value, place, depth + 1, encoding)
    if isinstance(value, str | int | float):
        return _scalar(value, place, encoding)
    tagged = _tag(value, place, encoding)
    if tagged is not None:
        return tagged
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        return _plain(_dumped(value, place), place, depth + 1, encoding)
    content = _content(value, place)
    done = encoding.done.get(id(value))
    if depth + (0 if done is None else done[3]) >= DEEPEST:
        raise SerializationError(f"nested deeper than {DEEPEST} levels", _words(place))
    if done is not None:  # a few lists that hold each other several times stand for terabytes
        encoding.take(done[2])
        encoding.deepest = max(encoding.deepest, depth + done[3])
        return done[1]
    if id(value) in encoding.above:
        raise SerializationError("contains itself", _words(place))
    encoding.above.add(id(value))
    before, deepest = encoding.left, encoding.deepest
    encoding.deepest = depth
    encoding.take(1)
    try:
        held = _held(content, place, depth, encoding)
    finally:
        encoding.above.discard(id(value))
    # The value too: its id is its own as long as it lives.
    encoding.done[id(value)] = value, held, before - encoding.left, encoding.deepest - depth
    encoding.deepest = max(encoding.deepest, deepest)
    return held


def _held(content: Any, place: _Place, depth: int, encoding: _Encoding) -> Any:
    """What a container holds, as JSON can say it."""
    if not isinstance(content, Mapping):
        items = []
        for index, item in enumerate(_elements(content, place, encoding)):
            encoding.take(1)
            items.append(_plain(item, (place, index), depth + 1, encoding))
        return items if isinstance(content, list | tuple) else sorted(items, key=json.dumps)
    fields = {}
    for key, item in _entries(content, place, encoding):
        name = _key(key, place)
        encoding.take(len(name) + 4)
        fields[name] = _plain(item, (place, name), depth + 1, encoding)
    if len(fields) == 1 and next(iter(fields)).startswith("$"):
        return {"$object": [[key, item] for key, item in fields.items()]}
    return fields


def _elements(content: Any, place: _Place, encoding: _Encoding) -> Iterable[Any]:
    kind = type(content)
    for base in _SEQUENCES:
        if issubclass(kind, base) and kind.__iter__ is base.__iter__:
            return base.__iter__(content)
    return encoding.bounded(content, content, place)


def _entries(content: Any, place: _Place, encoding: _Encoding) -> Iterable[tuple[Any, Any]]:
    kind = type(content)
    if issubclass(kind, dict) and kind.items is dict.items:
        return dict.items(content)
    return _pairs(encoding.bounded(content.items(), content, place), kind, place)


def _pairs(entries: Iterator[Any], kind: type, place: _Place) -> Iterator[tuple[Any, Any]]:
    for entry in entries:
        if type(entry) is not tuple or len(entry) != 2:
            raise SerializationError(f"the items of {_name_of(kind)} are no pairs of key and value", _words(place))
        yield entry


def _base_length(value: Any) -> int:
    """How many items a container really has; 0 if only its own code knows that."""
    for base in (dict, *_SEQUENCES):
        if issubclass(type(value), base):
            return base.__len__(value)
    return 0


def _scalar(value: str | int | float, place: _Place, encoding: _Encoding) -> Any:
    # What a subclass of them has for code of its own is not called.
    if isinstance(value, str):
        text = _text(value, place)
        encoding.take(len(text) + 2)
        return text
    if isinstance(value, int):
        number = int.__int__(value) if issubclass(type(value), int) else int(value)
        bits = number.bit_length()
        if bits > _MOST_BITS:
            raise SerializationError(f"a number of more than {MOST_DIGITS} digits", _words(place))
        encoding.take(bits // 4 + 1)
        return number
    fraction = float.__float__(value) if issubclass(type(value), float) else float(value)
    if not math.isfinite(fraction):
        raise SerializationError(f"{fraction} has no JSON form", _words(place))
    encoding.take(3)
    return fraction


def _text(value: str, place: _Place) -> str:
    text = str.__str__(value if issubclass(type(value), str) else str(value))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SerializationError("text with a lone surrogate is not valid UTF-8", _words(place)) from None
    return text


def _key(key: Any, place: _Place) -> str:
    name = key.value if isinstance(key, Enum) else key
    if not isinstance(name, str):
        raise SerializationError(f"the key {shown(name)} is no text", _words(place))
    return _text(name, place)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _content(value: Any, place: _Place) -> Any:
    """What a container holds: a mapping, a sequence or a set."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise SerializationError(f"{_name_of(type(value))} has no JSON form", _words(place))


def _dumped(model: Any, place: _Place) -> Any:
    try:
        return model.model_dump(mode="python")
    except ValueError as error:  # pydantic's word for a model that contains itself
        raise SerializationError(str(error), _words(place)) from error


def _tag(value: Any, place: _Place, encoding: _Encoding) -> dict[str, Any] | None:
    tagged = _tagged(value, place, encoding)
    if tagged is not None:
        encoding.take(16)
    return tagged


def _tagged(value: Any, place: _Place, encoding: _Encoding) -> dict[str, Any] | None:
    # By the methods of the types themselves: what a subclass has for code of its own is not called.
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise SerializationError("a datetime without a time zone; give it one", _words(place))
        return {"$datetime": datetime.isoformat(value)}
    if isinstance(value, Decimal):
        if not Decimal.is_finite(value):
            raise SerializationError(f"{Decimal.__str__(value)} has no JSON form", _words(place))
        text = Decimal.__str__(value)
        encoding.take(len(text))
        return {"$decimal": text}
    if isinstance(value, date):
        return {"$date": date.isoformat(value)}
    if isinstance(value, time):
        return {"$time": time.isoformat(value)}
    if isinstance(value, timedelta):
        span = timedelta.__pos__(value)
        return {"$timedelta": [span.days, span.seconds, span.microseconds]}
    if isinstance(value, UUID):
        return {"$uuid": UUID.__str__(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        content = memoryview(value)
        encoding.take(content.nbytes // 3 * 4)
        return {"$bytes": base64.b64encode(content.tobytes()).decode()}
    return None
