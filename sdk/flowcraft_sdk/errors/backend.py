"""What is wrong with Redis, or with what it holds."""

from flowcraft_sdk.errors.base import FlowcraftError


class BackendUnavailableError(FlowcraftError, ConnectionError):
    """Redis did not answer.

    Attributes:
        operation: What was being done.
        maybe_applied: Whether the call may have taken effect; repeating it is safe.
    """

    code = "backend_unavailable"

    def __init__(self, message: str, *, operation: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.operation = operation
        self.maybe_applied = maybe_applied


class BackendRefusedError(BackendUnavailableError):
    """Redis answers, and refuses for a reason that passes.

    Attributes:
        reason: full, read-only, loading, cannot-save, ...
    """

    code = "backend_refused"

    def __init__(self, message: str, *, reason: str = "", operation: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message, operation=operation, maybe_applied=maybe_applied)
        self.reason = reason


class NotDurableError(BackendUnavailableError):
    """The call is recorded, but Redis did not confirm in time that it is kept (`redis.durability`)."""

    code = "not_durable"


class ProtocolMismatchError(FlowcraftError):
    """Client and deployment speak different versions of the protocol.

    Attributes:
        client_version: The client's version.
        server_version: The deployment's version.
    """

    code = "protocol_mismatch"

    def __init__(self, client_version: str, server_version: str) -> None:
        super().__init__(
            f"this SDK speaks protocol {client_version}, the deployment {server_version}: use one release for both"
        )
        self.client_version = client_version
        self.server_version = server_version


class ForeignKeyError(FlowcraftError):
    """Something else has written to a key of ours in Redis.

    Attributes:
        key: The key.
        expected: The type that belongs there, as Redis calls it.
    """

    code = "foreign_key"

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(
            f"the key {key} in Redis is no {_TYPE_NAMES.get(expected, expected)}: something else has written there; "
            "find out what, delete the key, then run `flowcraft doctor --fix`"
        )
        self.key = key
        self.expected = expected


_TYPE_NAMES = {"zset": "sorted set"}
