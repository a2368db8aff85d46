"""What can go wrong when a language model is called."""

from flowcraft_sdk.node import NonRetryableError


class LLMError(Exception):
    """A language model gave no usable reply. The node that called it may be retried.

    Args:
        message: one line, starting with the provider's name.
        provider: the provider's name in `llm.providers`.
        status: HTTP status of the answer, if there was one.
        retry_after: seconds the provider asked to wait, if it did.
    """

    def __init__(
        self, message: str, *, provider: str = "", status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.retry_after = retry_after
        self.details = {"provider": provider, "status": status, "retryAfter": retry_after}


class LLMRateLimited(LLMError):
    """The provider refused the call because there were too many (HTTP 429)."""


class LLMTimeout(LLMError):
    """The provider did not answer within its `timeout`, or within what was left of the node's."""


class LLMUnreachable(LLMError):
    """No connection to the provider's `baseUrl`, or it broke before an answer came."""


class LLMReplyError(LLMError):
    """The provider answered, but not with a reply text."""


class LLMReplyTooLarge(LLMReplyError, NonRetryableError):
    """The provider's answer has more than `maxReply` bytes; reading stopped there."""


class LLMRedirectError(LLMError, NonRetryableError):
    """The provider redirects to another host, to which neither prompt nor key are sent, or without end."""


class LLMAuthError(LLMError, NonRetryableError):
    """The provider's `apiKey` is empty or was refused; trying again cannot help."""


class LLMRequestError(LLMError, NonRetryableError):
    """The provider found the request itself wrong (HTTP 4xx); trying again cannot help."""


class LLMSettingsError(LLMError, NonRetryableError):
    """The `llm` section of the configuration does not fit what is installed or asked for."""


class LLMNotRecorded(LLMError, NonRetryableError):
    """A `recorded` provider has no answer to the request, and may not ask for one; the message names the nearest that it has."""
