"""Values as an error message shows them."""

import json
from typing import Any

_LONGEST = 60


def quoted(value: Any) -> str:
    """A value on one line, cut to a length that fits: a text in quotes, anything else as JSON."""
    if isinstance(value, str):
        return f"'{_cut(''.join(char if char.isprintable() else ' ' for char in value))}'"
    try:
        return _cut(json.dumps(value, ensure_ascii=False, default=repr))
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
