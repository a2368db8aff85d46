"""The one form that values have in the JSON of both commands; docs/operations.md says what it is."""

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID


def json_form(value: Any) -> Any:
    """A value of a run, or a record of the SDK, as JSON has it.

    Times are ISO 8601 (a moment in UTC ends in `Z`), spans are seconds, bytes are base64, decimals and UUIDs texts, sets lists;
    what is no number is null.
    """
    if value is None or (isinstance(value, bool | str | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_form(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_form(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((json_form(item) for item in value), key=str)
    if hasattr(value, "model_dump"):
        return json_form(value.model_dump())
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return json_form(value.value)
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("+00:00") + ("Z" if value.utcoffset() == timedelta(0) else "")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal | UUID):
        return str(value)
    return str(value)
