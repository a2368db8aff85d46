"""Our errors for what models of pydantic-ai raise, by which calls are repeated and limits are kept."""

from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

from flowcraft_server.llm.call_gate import answer_headers
from flowcraft_server.llm.errors import (
    LLMAuthError,
    LLMError,
    LLMRateLimited,
    LLMRequestError,
    LLMTimeout,
    LLMUnreachable,
)
from flowcraft_server.llm.openai_failures import MAY_PASS, quoted, retry_after_seconds


def failure_of_named(provider: str, error: Exception) -> LLMError | None:
    """Our error for one that a model has raised; None if it is no failure of its provider.

    Args:
        provider: the provider's name in `llm.providers`.
        error: what was raised.
    """
    if isinstance(error, LLMError):
        return error
    where = f"llm.providers.{provider}"
    if isinstance(error, TimeoutError):
        return LLMTimeout(f"{where}: no reply in time (`timeout`)", provider=provider)
    if not isinstance(error, ModelAPIError):
        return None
    if not isinstance(error, ModelHTTPError):
        return LLMUnreachable(f"{where}: {quoted(str(error))}", provider=provider)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if (noted := answer_headers.get()) is not None:
        noted.update(headers)
    kind, status = LLMError, error.status_code
    if status == 429:
        kind = LLMRateLimited
    elif status in (401, 403):
        kind = LLMAuthError
    elif 400 <= status < 500 and status not in MAY_PASS:
        kind = LLMRequestError
    retry_after = retry_after_seconds(headers)
    return kind(f"{where}: {quoted(str(error))}", provider=provider, status=status, retry_after=retry_after)
