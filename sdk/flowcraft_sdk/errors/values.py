"""Values that cannot be sent or do not fit."""

from collections.abc import Sequence
from typing import Any

from flowcraft_sdk.errors.base import FlowcraftError


class SerializationError(FlowcraftError, TypeError):
    """A value cannot be stored.

    Attributes:
        path: Where in the arguments the value is, such as `ctx.order.items[3].price`.
    """

    code = "serialization"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class PayloadTooLargeError(SerializationError):
    """A value is over the limit.

    Attributes:
        size: Its size in bytes, as far as it was encoded: encoding ends at the limit.
        limit: The limit in bytes.
    """

    code = "payload_too_large"

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes are over the limit of {limit} (limits.maxValue)", path)
        self.size = size
        self.limit = limit


class InvalidInputError(FlowcraftError, ValueError):
    """A context does not fit the blueprint's `inputs`, or a node cannot take an answer.

    Attributes:
        errors: Every misfit: mappings with `loc` (path), `type` and `msg`.
    """

    code = "invalid_input"

    def __init__(self, message: str, errors: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)
