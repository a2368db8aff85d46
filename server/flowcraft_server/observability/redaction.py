"""Keeps secrets out of what is written for people to read."""

import re
from collections.abc import Iterable
from typing import Any

MASK = "********"

SHORTEST_SECRET = 4
"""Characters below which a text is no secret: masking every `a` or `123` would help nobody."""

_URL_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/@:]*:)[^\s/@]+(?=@)", re.IGNORECASE)
_BEARER = re.compile(r"\b(?P<before>bearer\s+)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_SECRET_NAME = re.compile(r"(api_?key|token|password|passwd|secret|credential|private_?key)", re.IGNORECASE)


class Redactor:
    """Masks known secrets, passwords in addresses and bearer tokens.

    Args:
        secrets: texts to mask wherever they stand; very short ones are left alone.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({text for text in secrets if len(text) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str) -> str:
        """The text with its secrets masked."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\g<before>{MASK}", text)
        return _BEARER.sub(rf"\g<before>{MASK}", text) if "earer " in text or "EARER " in text else text

    def clean_value(self, value: Any) -> Any:
        """A JSON-like value with the secrets in its texts masked, and what stands under a secret's name."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, dict):
            return {
                key: MASK if isinstance(item, str) and item and is_secret_name(str(key)) else self.clean_value(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.clean_value(item) for item in value]
        return value


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None
