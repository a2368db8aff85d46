from email.utils import formatdate
from time import time

import pytest

from flowcraft_server.llm.errors import (
    LLMAuthError,
    LLMError,
    LLMRateLimited,
    LLMReplyError,
    LLMRequestError,
    LLMTimeout,
    LLMUnreachable,
)
from flowcraft_server.llm.openai_failures import retry_after_seconds
from flowcraft_server.llm.retrying import RetryPolicy


@pytest.mark.parametrize(
    ("failure", "on", "covered"),
    [
        (LLMRateLimited("x", status=429), (429,), True),
        (LLMRateLimited("x", status=429), ("5xx",), False),
        (LLMRateLimited("x", status=429), ("4xx",), True),
        (LLMError("x", status=503), ("5xx",), True),
        (LLMError("x", status=503), (503,), True),
        (LLMError("x", status=503), (500, "timeout"), False),
        (LLMTimeout("x"), ("timeout",), True),
        (LLMTimeout("x"), ("5xx",), False),
        (LLMUnreachable("x"), ("timeout",), True),
        (LLMReplyError("x"), (429, "5xx", "timeout"), False),
        (LLMAuthError("x", status=401), (401, "4xx"), False),
        (LLMRequestError("x", status=400), (400, "4xx"), False),
    ],
)
def test_what_is_repeated(failure: LLMError, on: tuple[int | str, ...], covered: bool) -> None:
    assert RetryPolicy(on=on).covers(failure) is covered


def test_waits_grow_and_are_bounded() -> None:
    policy = RetryPolicy(max_attempts=10, initial=1.0, max_delay=4.0)
    failure = LLMError("x", status=500)
    for attempt, longest in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)]:
        delay = policy.delay_after(attempt, failure)
        assert delay is not None
        assert longest / 2 <= delay <= longest
    assert policy.delay_after(10, failure) is None


def test_the_providers_wish_counts_up_to_a_bound() -> None:
    policy = RetryPolicy(max_retry_after=30.0)
    assert policy.delay_after(1, LLMRateLimited("x", status=429, retry_after=30.0)) == 30.0
    assert policy.delay_after(1, LLMRateLimited("x", status=429, retry_after=0.0)) == 0.0
    assert policy.delay_after(1, LLMRateLimited("x", status=429, retry_after=31.0)) is None


def test_reading_of_retry_after() -> None:
    assert retry_after_seconds({"retry-after": "1.5"}) == 1.5
    assert retry_after_seconds({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_seconds({"retry-after": "-3"}) == 0.0
    assert retry_after_seconds({"retry-after": "nan"}) is None
    assert retry_after_seconds({"retry-after": "soon"}) is None
    assert retry_after_seconds({}) is None
    in_ten = retry_after_seconds({"retry-after": formatdate(time() + 10, usegmt=True)})
    assert in_ten is not None
    assert 8.5 < in_ten <= 10
