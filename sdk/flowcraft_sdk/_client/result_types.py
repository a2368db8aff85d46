"""Results as the type the caller asked for."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowcraft_sdk.errors import SerializationError


def convert(value: Any, result_type: Any) -> Any:
    """A result validated as `result_type`; None leaves it as it is.

    Raises:
        SerializationError: the result does not fit the type.
    """
    if result_type is None:
        return value
    try:
        return TypeAdapter(result_type).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "result"
        raise SerializationError(f"the result does not fit {result_type!r}: {first['msg']}", where) from error
