"""How a dotted path reads a value: the one rule for inputs, results, mappings of subflows and templates.

The exact key comes first, then the longest beginning of the path that is a key; from there the path goes through objects by
key and through lists by index. What leads nowhere is None.
"""

from collections.abc import Mapping, Sequence
from typing import Any

OWN = "_own."
"""What begins a path in `outputs` to the output that a node has itself, although its fallback stood in for it."""


def walk(value: Any, path: str, absent: Any = None) -> Any:
    """Follow a path into a value; `absent` where it leads nowhere, the value itself for an empty path."""
    for part in path.split(".") if path else ():
        if isinstance(value, Mapping):
            if part not in value:
                return absent
            value = value[part]
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return absent
    return value


def beginnings(path: str) -> list[str]:
    """The keys that a path may begin with, the longest one first: the path itself, and each part of it up to a dot."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def resolve(values: Mapping[str, Any], path: str) -> Any:
    """What a path reads among values by key; None if no beginning of it is a key."""
    for key in beginnings(path):
        if key in values:
            return walk(values[key], path[len(key) + 1 :])
    return None
