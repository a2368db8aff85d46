"""What `ctx.step` raises besides what its own call raises."""

from flowcraft_sdk.node.context import NonRetryableError


class StepMismatchError(NonRetryableError):
    """A handler asks for its steps in another order than an earlier attempt at the node did, so no record can be relied on.

    Attributes:
        asked: The step that the handler asks for.
        recorded: The step that was recorded in its place, or as which it was recorded.
    """

    def __init__(self, message: str, *, asked: str = "", recorded: str = "") -> None:
        super().__init__(message, details={"asked": asked, "recorded": recorded})
        self.asked = asked
        self.recorded = recorded


class StepLimitError(NonRetryableError):
    """A node has more steps than are kept for it, or they give more than is."""


class StepTimeoutError(TimeoutError):
    """A step took longer than its `timeout`."""
