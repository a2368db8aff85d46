"""The settings that count, as they would be written, secrets masked."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import SecretStr

from flowcraft_sdk._config.source_positions import Path, written_path
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_server.observability.redaction import MASK, Redactor, is_secret_name

from .model import Settings

_DEFAULT_OF_A_VARIABLE = re.compile(r"(\$\{[A-Za-z_][A-Za-z0-9_]*:?[-+?])[^}]*")


def plain_settings(settings: Settings, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """All settings by their keys, as JSON values, with durations and sizes as they are written.

    Args:
        secrets: texts to mask besides those that are known to be secret.
    """
    plain = settings.model_dump(mode="json", by_alias=True)
    masked = str(SecretStr("x"))
    shown: dict[str, Any] = _as_written(Redactor(secrets).clean_value(plain), masked)
    return shown


def with_origins(plain: dict[str, Any], values: Tree) -> Iterator[tuple[str, Any, str]]:
    """Each value of `plain_settings` with its path and where it comes from."""
    for path, value in Tree(plain).leaves():
        yield written_path(path), value, _origin(path, values)


def _origin(path: Path, values: Tree) -> str:
    if values.get(path) is None:
        return "default"
    origin = values.origin_of(path)
    if origin is None:
        return "default"
    if not origin.written:
        return origin.label
    # What a variable stands for when it is not set may be a secret, or hold one.
    written = Redactor().clean(origin.written)
    if any(is_secret_name(str(key)) for key in path) or written != origin.written:
        written = _DEFAULT_OF_A_VARIABLE.sub(rf"\g<1>{MASK}", origin.written)
    return f"{origin.label} ({written}{'; ' if origin.filled else ''}{origin.filled})"


def _as_written(value: Any, masked: str) -> Any:
    if isinstance(value, dict):
        return {key: _as_written(item, masked) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_as_written(item, masked) for item in value]
    return MASK if value == masked else value
