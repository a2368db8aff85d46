"""What clients over HTTP raise besides the errors of all clients."""

from flowcraft_sdk.errors import FlowcraftError


class AccessDeniedError(FlowcraftError, PermissionError):
    """The API refuses the sender of a request, by its token or its role.

    Attributes:
        status: 401 if the token counts for nothing there, 403 if its role does not allow what was asked.
        reason: Why, as the API names it: `unauthenticated`, `forbidden`, `read_only`, ...
    """

    code = "access_denied"

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class UnexpectedReplyError(FlowcraftError):
    """What answers is not the API of a deployment, or not one that this client understands.

    Attributes:
        status: The status code of the answer.
    """

    code = "unexpected_reply"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
