"""Translates what the `openai` client raises and returns into our errors and a reply text."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import openai

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
_MAY_PASS = (408, 409, 425)  # 4xx answers about the moment, not about the request


def failure_of(error: Exception, *, provider: str, timeout: float, base_url: str) -> LLMError:
    """Return our error for `error`, which the `openai` client raised.

    Args:
        error: The exception.
        provider: the provider's name, for the message.
        timeout: the provider's time limit in seconds, for the message.
        base_url: the provider's address, for the message.
    """
    where = f"llm.providers.{provider}"
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        return LLMTimeout(f"{where}: no reply within {timeout:g}s (`timeout`)", provider=provider)
    if isinstance(error, openai.APIStatusError):
        return _failure_of_status(error, where, provider)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return LLMUnreachable(f"{where}: no connection to {base_url}: {_quote(str(cause))}", provider=provider)
    return LLMReplyError(f"{where}: unreadable answer: {type(error).__name__}: {_quote(str(error))}", provider=provider)


def reply_text(completion: Any, *, provider: str) -> str:
    """Return the text of a chat completion.

    Raises:
        LLMReplyError: there is none; the message says what was there instead.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content
    except (AttributeError, IndexError, TypeError):
        # A body that is not JSON, or JSON of another shape, passes through the client unchecked.
        raise LLMReplyError(
            f"llm.providers.{provider}: the answer is not a chat completion: {_quote(str(completion))}",
            provider=provider,
        ) from None
    if not isinstance(text, str):
        refusal = getattr(choice.message, "refusal", None)
        reason = f"refused: {_quote(str(refusal))}" if refusal else f"finish_reason {choice.finish_reason!r}"
        raise LLMReplyError(f"llm.providers.{provider}: the answer holds no text ({reason})", provider=provider)
    return text


def _failure_of_status(error: openai.APIStatusError, where: str, provider: str) -> LLMError:
    status = error.status_code
    reply = f"HTTP {status}: {_quote(error.message)}"
    retry_after = retry_after_seconds(error.response.headers)
    if status == 429:
        return LLMRateLimited(f"{where}: {reply}", provider=provider, status=status, retry_after=retry_after)
    if status in (401, 403):
        return LLMAuthError(f"{where}.apiKey was refused: {reply}", provider=provider, status=status)
    if 400 <= status < 500 and status not in _MAY_PASS:
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
            except ValueError:
                continue
        if seconds == seconds:  # not NaN
            return max(seconds, 0.0)
    return None


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."
