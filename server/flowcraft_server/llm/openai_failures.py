"""Translates what the `openai` client raises into our errors."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2
import openai

from .call_gate import LONGEST_RETRY_AFTER
from .errors import (
    LLMAuthError,
    LLMError,
    LLMRateLimited,
    LLMReplyError,
    LLMRequestError,
    LLMTimeout,
    LLMUnreachable,
)

_LONGEST_QUOTE = 300
MAY_PASS = (408, 409, 425)
"""4xx answers about the moment, not about the request."""


def failure_of(error: Exception, *, provider: str, timeout: float, base_url: str) -> LLMError:
    """Return our error for `error`, which the `openai` client raised.

    Args:
        error: The exception.
        provider: the provider's name, for the message.
        timeout: the provider's time limit in seconds, for the message.
        base_url: the provider's address, for the message.
    """
    where = f"llm.providers.{provider}"
    if isinstance(error.__cause__, openai.APIError):  # what a library above the client has made of it
        error = error.__cause__
    if isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError)):
        return LLMTimeout(f"{where}: no reply within {timeout:g}s (`timeout`)", provider=provider)
    if isinstance(error, httpx2.TransportError):  # while a reply is streamed, the client does not translate them
        return LLMUnreachable(f"{where}: the reply broke off: {quoted(str(error))}", provider=provider)
    if isinstance(error, openai.APIStatusError):
        return _failure_of_status(error, where, provider)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return LLMUnreachable(f"{where}: no connection to {base_url}: {quoted(str(cause))}", provider=provider)
    return LLMReplyError(f"{where}: unreadable answer: {type(error).__name__}: {quoted(str(error))}", provider=provider)


def _failure_of_status(error: openai.APIStatusError, where: str, provider: str) -> LLMError:
    status = error.status_code
    reply = f"HTTP {status}: {quoted(error.message)}"
    retry_after = retry_after_seconds(error.response.headers)
    if status == 429:
        return LLMRateLimited(f"{where}: {reply}", provider=provider, status=status, retry_after=retry_after)
    if status in (401, 403):
        return LLMAuthError(f"{where}.apiKey was refused: {reply}", provider=provider, status=status)
    if 400 <= status < 500 and status not in MAY_PASS:
        return LLMRequestError(f"{where}: the request was refused: {reply}", provider=provider, status=status)
    return LLMError(f"{where}: {reply}", provider=provider, status=status, retry_after=retry_after)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after-ms` or `retry-after` (a number or an HTTP date) ask to wait; None if neither does."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:  # not NaN
            return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
    return None


def quoted(text: str) -> str:
    """The text of a provider, on one line and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."
