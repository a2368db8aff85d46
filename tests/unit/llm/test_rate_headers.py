"""Limits of providers, as the headers of their answers state them."""

from datetime import UTC, datetime, timedelta

import pytest

from flowcraft_server.llm.rate_headers import Learned, learned_from, until_reset


def openai(kind: str, most: str, left: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": most,
        f"x-ratelimit-remaining-{kind}": left,
        f"x-ratelimit-reset-{kind}": reset,
    }


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (openai("requests", "500", "499", "120ms"), {"requests": Learned(500, 499, 60)}),
        (openai("tokens", "30000", "29000", "2s"), {"tokens": Learned(30_000, 29_000, 60)}),
        (openai("requests", "200", "199", "7m12s"), {"requests": Learned(200, 199, 86_400)}),
        (openai("requests", "60", "60", "0s"), {"requests": Learned(60, 60, 60)}),
        (openai("requests", "60", "70", "1s"), {"requests": Learned(60, 60, 60)}),
        (openai("requests", "60", "many", "soon"), {"requests": Learned(60, 60, 60)}),
        (openai("requests", "0", "0", "1s"), {}),
        (openai("requests", "-5", "0", "1s"), {}),
        (openai("requests", "9" * 400, "0", "1s"), {}),
        (openai("requests", "\u00b2", "0", "1s"), {}),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-input-tokens-limit": "20000",
            },
            {"requests": Learned(50, 49, 60), "tokens": Learned(20_000, 20_000, 60)},
        ),
        ({}, {}),
    ],
)
def test_limits_that_an_answer_states(headers: dict[str, str], found: dict[str, Learned]) -> None:
    assert learned_from(headers) == found


def test_when_a_provider_takes_calls_again() -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    headers = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": soon}
    assert 3000 < until_reset(headers) <= 3600
    assert until_reset({**headers, "anthropic-ratelimit-tokens-remaining": "1"}) == 0
    assert until_reset({**headers, "anthropic-ratelimit-tokens-reset": "2020-01-01"}) == 0
    assert until_reset({**headers, "anthropic-ratelimit-tokens-reset": "soon"}) == 0
    assert until_reset(openai("tokens", "5", "0", "1m30s")) == 90
