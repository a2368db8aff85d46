"""The least that a value takes as JSON, worked out without writing it.

A few lists that hold each other several times may stand for terabytes, and orjson writes them in one go that nothing ends.
"""

import gc
from typing import Any

from flowcraft_sdk.errors import SerializationError

LARGEST_VALUE = 512 * 1024 * 1024
"""Bytes of a value for which no other limit is given: Redis stores no longer text."""

_CONTAINERS = frozenset((dict, list, tuple))
DEEPEST = 254
"""Levels of nesting that a value may have; orjson writes no more either."""

_FEW = 100
"""Values for which one loop is quicker than two comprehensions."""

_MANY = 100_000
"""Containers of a level from which on it is looked whether many of them are the same."""


def least_size(value: Any, most: int, path: str) -> int:
    """Bytes that a value takes as JSON at least. What has code of its own counts for little here, and none of it is called.

    Args:
        most: where counting may end.
        path: how the value is called in error messages.

    Raises:
        SerializationError: it contains itself.
    """
    if type(value) is str:
        return len(value) + 2
    if type(value) not in _CONTAINERS:
        return 1
    size, level = 1, [value]
    for _ in range(DEEPEST):  # level by level, as that is quick: this is asked for each value that is stored
        inner = gc.get_referents(*level)
        size += 2 * len(inner)
        if len(inner) > _FEW:
            size += sum([len(each) for each in inner if type(each) is str])
            level = [each for each in inner if type(each) in _CONTAINERS]
        else:
            level = []
            for each in inner:
                kind = type(each)
                if kind is str:
                    size += len(each)
                elif kind in _CONTAINERS:
                    level.append(each)
        if size > most or not level:
            break
        if len(level) > _MANY and len(set(map(id, level))) < len(level) // 2:
            return _size_of_shared(value, path)
    return size


def _size_of_shared(value: Any, path: str) -> int:
    """The same, with each container looked into once, however often it occurs."""
    sizes: dict[int, int | None] = {}
    pending: list[tuple[Any, list[Any] | None]] = [(value, None)]
    while pending:
        item, known = pending.pop()
        if known is None:
            if id(item) in sizes:
                if sizes[id(item)] is None:
                    raise SerializationError("contains itself", path)
                continue
            sizes[id(item)] = None
            known = gc.get_referents(item)
            pending.append((item, known))
            pending += [(each, None) for each in known if type(each) in _CONTAINERS]
        else:
            texts = sum([len(each) for each in known if type(each) is str])
            inner = sum([sizes[id(each)] or 0 for each in known if type(each) in _CONTAINERS])
            sizes[id(item)] = 2 * len(known) + texts + inner
    return 1 + (sizes[id(value)] or 0)
