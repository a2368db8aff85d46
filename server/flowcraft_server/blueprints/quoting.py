"""Values as an error message shows them."""

import json
from typing import Any

_LONGEST = 60


def quoted(value: Any) -> str:
    """A value on one line, cut to a length that fits: a text in quotes, anything else as JSON."""
    if isinstance(value, str):
        return f"'{cut(''.join(char if char.isprintable() else ' ' for char in value), _LONGEST)}'"
    try:
        return cut(json.dumps(value, ensure_ascii=False, default=repr), _LONGEST)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def cut(text: str, longest: int = 200) -> str:
    """A text, cut to a length that fits."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
