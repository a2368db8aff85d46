import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.llm import (
    Endpoint,
    LLMAuthError,
    LLMError,
    LLMRateLimited,
    LLMReplyError,
    LLMRequestError,
    LLMSettingsError,
    LLMTimeout,
    LLMUnreachable,
    OpenAICompatible,
    RetryPolicy,
)
from flowcraft_server.llm.calls import ModelRequest
from tests.unit.llm.chat_server import Answer, chat_server, refusal, reply

KEY = "sk-secret-value"
Ask = Callable[..., str]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls a provider the plain or the asynchronous way: both must behave the same."""

    def call(provider: OpenAICompatible, prompt: str = "hello", **options: Any) -> str:
        if request.param == "sync":
            return provider.complete(prompt, **options)
        return asyncio.run(provider.asynchronous.complete(prompt, **options))

    return call


def provider(url: str, *, key: str = KEY, timeout: float = 5.0, at_once: int = 8, **retries: Any) -> OpenAICompatible:
    policy = RetryPolicy(**{"initial": 0.01, "max_delay": 0.02, **retries})
    return OpenAICompatible("main", Endpoint(url, key, "small-model", timeout, at_once, policy))


def test_sends_the_prompt_and_returns_the_reply(ask: Ask) -> None:
    with chat_server(reply("hi there")) as server:
        assert ask(provider(server.url)) == "hi there"
    assert server.requests == [{"model": "small-model", "messages": [{"role": "user", "content": "hello"}]}]
    assert server.authorizations == [f"Bearer {KEY}"]


def test_repetitions_of_a_call_have_its_idempotency_key() -> None:
    request = ModelRequest.of_prompt("hello")
    with chat_server(refusal(500, "busy"), reply("one"), reply("two")) as server:
        asked = provider(server.url)
        assert asked.call(replace(request, idempotency_key="k1")).text == "one"
        assert asked.call(request).text == "two"
    assert server.idempotency_keys == ["k1", "k1", None]
    assert all(set(request) == {"model", "messages"} for request in server.requests)


def test_options_of_a_call_reach_the_endpoint(ask: Ask) -> None:
    with chat_server(reply("ok")) as server:
        ask(provider(server.url), "p", system="be brief", model="big-model", temperature=0.0, max_tokens=7)
    assert server.requests == [
        {
            "model": "big-model",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "p"}],
            "temperature": 0.0,
            "max_tokens": 7,
        }
    ]


def test_waits_as_long_as_retry_after_says(ask: Ask) -> None:
    with chat_server(refusal(429, "slow down", retry_after="0.3"), reply("done")) as server:
        assert ask(provider(server.url)) == "done"
    assert server.times[1] - server.times[0] >= 0.3


def test_gives_up_at_once_when_asked_to_wait_too_long(ask: Ask) -> None:
    with chat_server(refusal(429, "quota", retry_after="3600")) as server, pytest.raises(LLMRateLimited) as caught:
        ask(provider(server.url))
    assert len(server.requests) == 1
    assert caught.value.status == 429
    assert caught.value.retry_after == 3600.0


def test_repeats_after_server_errors_until_the_attempts_are_used_up(ask: Ask) -> None:
    with chat_server(refusal(500, "boom"), refusal(503, "busy"), reply("ok")) as server:
        assert ask(provider(server.url, max_attempts=3)) == "ok"
    with chat_server(refusal(502, "bad gateway")) as server, pytest.raises(LLMError) as caught:
        ask(provider(server.url, max_attempts=3))
    assert len(server.requests) == 3
    assert caught.value.status == 502
    assert "llm.providers.main: HTTP 502" in str(caught.value)
    assert not isinstance(caught.value, NonRetryableError)


def test_repeats_only_what_the_policy_names(ask: Ask) -> None:
    with chat_server(refusal(500, "boom"), reply("ok")) as server, pytest.raises(LLMError):
        ask(provider(server.url, on=(429, "timeout")))
    assert len(server.requests) == 1


def test_a_timeout_is_repeated_and_then_reported(ask: Ask) -> None:
    with chat_server(reply("late", hang=0.6), reply("in time")) as server:
        assert ask(provider(server.url, timeout=0.2)) == "in time"
    with chat_server(reply("late", hang=0.6)) as server, pytest.raises(LLMTimeout, match=r"no reply within 0\.2s"):
        ask(provider(server.url, timeout=0.2, max_attempts=1))


def test_a_broken_connection_is_repeated(ask: Ask) -> None:
    with chat_server(Answer(cut=True), reply("ok")) as server:
        assert ask(provider(server.url)) == "ok"


def test_no_server_at_all(ask: Ask) -> None:
    with chat_server(reply("x")) as server:
        url = server.url
    with pytest.raises(LLMUnreachable, match=r"no connection to http://127\.0\.0\.1"):
        ask(provider(url, max_attempts=2))


@pytest.mark.parametrize(
    "body",
    ["", "<html>not json</html>", '"text"', "[]", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": null}'],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_malformed_body_is_an_error_of_its_own(ask: Ask, body: str, kind: str) -> None:
    with chat_server(Answer(body=body, headers={"content-type": kind})) as server, pytest.raises(LLMReplyError):
        ask(provider(server.url))
    assert len(server.requests) == 1


def test_a_reply_without_text_says_why(ask: Ask) -> None:
    with chat_server(reply(None, finish_reason="length")) as server, pytest.raises(LLMReplyError, match="'length'"):
        ask(provider(server.url))


def test_a_refused_key_is_not_tried_again_and_not_shown(ask: Ask) -> None:
    with chat_server(refusal(401, f"Incorrect API key: {KEY}")) as server, pytest.raises(LLMAuthError) as caught:
        ask(provider(server.url))
    assert len(server.requests) == 1
    assert isinstance(caught.value, NonRetryableError)
    assert "llm.providers.main.apiKey" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_refused_request_is_not_tried_again(ask: Ask) -> None:
    with chat_server(refusal(404, "no such model")) as server, pytest.raises(LLMRequestError, match="no such model"):
        ask(provider(server.url, on=(404, "4xx")))
    assert len(server.requests) == 1


def test_an_empty_key_is_an_error_at_the_call_that_names_the_setting(ask: Ask) -> None:
    with chat_server(reply("never")) as server:
        keyless = provider(server.url, key="")
        with pytest.raises(LLMAuthError, match=r"llm\.providers\.main\.apiKey is empty"):
            ask(keyless)
        assert server.requests == []
    assert keyless.warning is not None
    assert "llm.providers.main.apiKey" in keyless.warning
    assert provider(server.url).warning is None


def test_a_missing_client_library_names_the_extra(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(LLMSettingsError, match=r"flowcraft-server\[llm\]"):
        ask(provider("http://127.0.0.1:9/v1"))


def test_no_more_calls_at_once_than_allowed() -> None:
    with chat_server(reply("ok", hang=0.05)) as server:
        shared = provider(server.url, at_once=2)

        async def many() -> None:
            await asyncio.gather(*(shared.acomplete("a") for _ in range(6)))

        threads = [threading.Thread(target=shared.complete, args=("s",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(many())
        for thread in threads:
            thread.join()
    assert len(server.requests) == 10
    assert server.most_at_once == 2


def test_waiting_for_a_place_does_not_hold_up_the_event_loop() -> None:
    with chat_server(reply("ok", hang=0.6)) as server:
        narrow = provider(server.url, at_once=1)

        async def measure() -> float:
            calls = [asyncio.create_task(narrow.acomplete("a")) for _ in range(2)]
            longest, before = 0.0, time.monotonic()
            while not all(call.done() for call in calls):
                await asyncio.sleep(0.01)
                now = time.monotonic()
                longest, before = max(longest, now - before), now
            return longest

        assert asyncio.run(measure()) < 0.5


def test_a_cancelled_call_ends_at_once_and_gives_its_place_back() -> None:
    with chat_server(reply("late", hang=2.0), reply("next")) as server:
        narrow = provider(server.url, at_once=1)

        async def cancel_then_ask() -> str:
            call = asyncio.create_task(narrow.acomplete("a"))
            while not server.requests:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await asyncio.wait_for(narrow.acomplete("b"), 1.0)

        assert asyncio.run(cancel_then_ask()) == "next"


def test_a_provider_serves_one_event_loop_after_another() -> None:
    with chat_server(reply("ok")) as server:
        shared = provider(server.url)
        assert [asyncio.run(shared.acomplete("a")) for _ in range(3)] == ["ok"] * 3
        shared.close()
        assert shared.complete("again") == "ok"


def test_the_key_is_not_in_the_repr() -> None:
    assert KEY not in repr(provider("http://127.0.0.1:9/v1").endpoint)


def test_a_schema_is_sent_until_the_endpoint_refuses_it(ask: Ask) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}}
    refused = refusal(400, "response_format of type json_schema is not supported")
    with chat_server(reply('{"a": true}'), refused, reply("yes"), reply("no")) as server:
        model = provider(server.url)
        assert ask(model, schema=schema) == '{"a": true}'
        assert [ask(model, schema=schema) for _ in range(2)] == ["yes", "no"]
    asked = [request.get("response_format") for request in server.requests]
    assert asked[0]["json_schema"]["schema"] == schema
    assert [bool(each) for each in asked] == [True, True, False, False]


def test_another_refusal_is_no_matter_of_the_schema(ask: Ask) -> None:
    with (
        chat_server(refusal(400, "the context is too long")) as server,
        pytest.raises(LLMRequestError, match="too long"),
    ):
        ask(provider(server.url), schema={"type": "object"})
    assert len(server.requests) == 1
