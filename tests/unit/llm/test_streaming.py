"""Replies piece by piece, and each way in which one can go wrong; functions and coroutines alike."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk.node import NodeCancelled, NonRetryableError
from flowcraft_server.llm import (
    AsyncHandlerModel,
    Endpoint,
    HandlerModel,
    LLMError,
    LLMReplyError,
    LLMReplyTooLarge,
    LLMTimeout,
    LLMUnreachable,
    ModelReply,
    ModelRequest,
    OpenAICompatible,
    Provider,
    RetryPolicy,
    Scripted,
    TokenUsage,
)
from tests.unit.llm.stream_server import DONE, USAGE, Step, chunk, event, stream_server

Read = Callable[..., list[str]]
KEY = "sk-secret-value"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def provider(url: str, *, timeout: float = 10.0, max_reply: int = 100_000, **retries: Any) -> OpenAICompatible:
    policy = RetryPolicy(**{"initial": 0.01, "max_delay": 0.02, **retries})
    return OpenAICompatible("main", Endpoint(url, KEY, "small-model", timeout, 8, policy, max_reply))


class Sink:
    """What clients that follow the node would get, and how the handler is interrupted."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.interrupt: Callable[[], None] | None = None

    def show(self, part: str, text: str) -> None:
        self.shown.append((part, text))

    def interrupt_with(self, interrupt: Callable[[], None] | None) -> None:
        self.interrupt = interrupt


class Recorder:
    """A layer that notes replies, and gives those that it has: as durable steps do."""

    def __init__(self) -> None:
        self.replies: list[ModelReply] = []
        self.answer: ModelReply | None = None

    def call(self, _provider: Provider, request: ModelRequest, further: Any) -> ModelReply:
        self.replies.append(self.answer or further(request))
        return self.replies[-1]

    async def acall(self, _provider: Provider, request: ModelRequest, further: Any) -> ModelReply:
        self.replies.append(self.answer or await further(request))
        return self.replies[-1]


@pytest.fixture(params=["function", "coroutine"])
def read(request: pytest.FixtureRequest) -> Read:
    """Reads a whole stream of a provider through the model that handlers get."""

    def reads(
        provider: Provider, *, taken: list[str] | None = None, sink: Any = None, layers: Any = (), **options: Any
    ) -> list[str]:
        found = [] if taken is None else taken
        if request.param == "function":
            found += HandlerModel(provider, layers, sink=sink).stream("hello", **options)
            return found

        async def awaited() -> None:
            async for text in AsyncHandlerModel(provider, layers, sink).stream("hello", **options):
                found.append(text)

        asyncio.run(awaited())
        return found

    return reads


def test_a_reply_that_has_said_its_end_is_taken_though_the_connection_stays_open(read: Read) -> None:
    with stream_server([chunk("Hel"), chunk("lo", "stop"), USAGE, DONE, "wait"]) as server:
        recorder = Recorder()
        assert read(provider(server.url, timeout=30), layers=[recorder]) == ["Hel", "lo"]
        assert recorder.replies[0].usage.output_tokens == 3
        assert server.left.acquire(timeout=30), "the connection is closed"
        assert len(server.requests) == 1


def test_the_reply_comes_in_pieces_and_is_whole_for_the_layers(read: Read) -> None:
    sink, recorder = Sink(), Recorder()
    script: list[Step] = [
        chunk(""),
        chunk("Hel")[:20],
        chunk("Hel")[20:],
        chunk("lo ") + chunk("wörld"),
        chunk(None, "stop"),
        USAGE,
        DONE,
    ]
    with stream_server(script) as server:
        assert read(provider(server.url), sink=sink, layers=[recorder], temperature=0.5) == ["Hel", "lo ", "wörld"]
    assert sink.shown == [("", "Hel"), ("", "lo "), ("", "wörld")]
    (reply,) = recorder.replies
    assert (reply.text, reply.model, reply.finish_reason) == ("Hello wörld", "m-1", "stop")
    assert reply.usage == TokenUsage(7, 2, 3)
    (request,) = server.requests
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert request["temperature"] == 0.5


def test_a_recorded_reply_is_one_piece_and_is_shown_to_no_one(read: Read) -> None:
    sink, recorder = Sink(), Recorder()
    recorder.answer = ModelReply("as recorded")
    assert read(provider("http://127.0.0.1:9/v1"), sink=sink, layers=[recorder]) == ["as recorded"]
    assert sink.shown == []


def test_parts_have_names_or_numbers_and_may_be_hidden() -> None:
    sink = Sink()
    with stream_server([chunk("x"), chunk(None, "stop"), DONE]) as server:
        model = HandlerModel(provider(server.url), sink=sink)
        for options in ({}, {"show": False}, {"part": "title"}, {}):
            assert list(model.stream("p", **options)) == ["x"]
    assert sink.shown == [("", "x"), ("title", "x"), ("2", "x")]


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ([chunk("Half"), "reset"], LLMUnreachable, "broke off"),
        ([chunk("Half")], LLMUnreachable, "broke off after 4 characters"),
        ([chunk("Half"), event('{"choices": [')], LLMReplyError, "a piece of the reply is not JSON"),
        ([chunk("Half"), event('{"choices": "none"}')], LLMReplyError, "is no part of a chat completion"),
        ([chunk("Half"), event('{"error": {"message": "overloaded"}}')], LLMError, "broke the reply off: overloaded"),
        ([chunk("Half"), *[chunk("y" * 1000)] * 200], LLMReplyTooLarge, "maxReply"),
        ([chunk("Half"), b"data: " + b"z" * 60_000, b"z" * 60_000], LLMReplyTooLarge, "maxReply"),
    ],
    ids=["reset", "cut", "invalid-json", "wrong-shape", "error-event", "endless", "endless-line"],
)
def test_a_reply_that_goes_wrong_on_its_way_is_not_asked_for_again(
    read: Read, script: list[Step], kind: type[LLMError], message: str
) -> None:
    taken: list[str] = []
    with stream_server(script) as server, pytest.raises(kind, match=message) as caught:
        read(provider(server.url), taken=taken)
    assert taken[0] == "Half", "what came before is given"
    assert type(caught.value) is kind
    assert len(server.requests) == 1
    assert isinstance(caught.value, NonRetryableError) is (kind is LLMReplyTooLarge)


def test_what_goes_wrong_before_the_first_piece_is_asked_for_again(read: Read) -> None:
    busy = b"HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    limited = busy.replace(b"503 Busy", b"429 Slow\r\nretry-after: 0")
    whole: list[Step] = [chunk("ok"), chunk(None, "stop"), DONE]
    with stream_server([busy, b"{}"], [limited, b"{}"], ["reset"], whole) as server:
        assert read(provider(server.url)) == ["ok"]
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([json.dumps({"choices": [{"message": {"content": "whole"}}]}).encode()], "not a streamed chat completion"),
        ([b"<html>\n<p>hello"], "not a streamed chat completion"),
        ([chunk(None, "length"), DONE], "holds no text .finish_reason 'length'."),
        (
            [event(json.dumps({"choices": [{"delta": {"refusal": "I cannot"}, "finish_reason": "stop"}]})), DONE],
            "refused: I cannot",
        ),
    ],
    ids=["json", "html", "empty", "refusal"],
)
def test_a_reply_without_text_is_an_error(read: Read, script: list[Step], message: str) -> None:
    with stream_server(script) as server, pytest.raises(LLMReplyError, match=message):
        read(provider(server.url))


def test_a_slow_reply_ends_at_the_time_limit_of_the_whole_call(read: Read) -> None:
    with stream_server([chunk("slow"), "wait"]) as server:
        with pytest.raises(LLMTimeout, match=r"no reply within 0\.3s"):
            read(provider(server.url, timeout=0.3))
        assert server.left.acquire(timeout=30), "the server sees that the client has left"


def test_a_key_is_not_in_what_a_provider_quotes(read: Read) -> None:
    error = event(json.dumps({"error": f"bad key {KEY}"}))
    with stream_server([error]) as server, pytest.raises(LLMError) as caught:
        read(provider(server.url, max_attempts=1))
    assert KEY not in str(caught.value)


def test_a_cancelled_coroutine_closes_the_connection() -> None:
    async def cancelled(url: str, server: Any) -> None:
        async def follow() -> None:
            async for _ in AsyncHandlerModel(provider(url)).stream("p"):
                came.set()

        came = asyncio.Event()
        task = asyncio.create_task(follow())
        await came.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await asyncio.to_thread(server.left.acquire, timeout=30)

    with stream_server([chunk("x"), "wait"]) as server:
        asyncio.run(cancelled(server.url, server))


def test_a_stream_that_is_left_early_closes_the_connection() -> None:
    async def leave(url: str) -> None:
        stream = AsyncHandlerModel(provider(url)).stream("p")
        assert await anext(stream) == "x"
        await stream.aclose()  # type: ignore[attr-defined]

    with stream_server([chunk("x"), "wait"]) as server:
        asyncio.run(leave(server.url))
        assert server.left.acquire(timeout=30)
        stream = HandlerModel(provider(server.url)).stream("p")
        assert next(stream) == "x"
        stream.close()  # type: ignore[attr-defined]
        assert server.left.acquire(timeout=30)


def test_a_function_that_is_to_stop_is_interrupted_while_it_waits() -> None:
    sink = Sink()
    with stream_server([chunk("x"), "wait"]) as server:
        stream = HandlerModel(provider(server.url), sink=sink).stream("p")
        assert next(stream) == "x"
        assert sink.interrupt is not None
        threading.Thread(target=sink.interrupt).start()
        with pytest.raises(NodeCancelled):
            next(stream)
        assert server.left.acquire(timeout=30)
    assert sink.interrupt is None


def test_a_provider_s_own_stream(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("replies: [{match: slow, reply: 'one two  three', latency: 30ms}]\ndefault: ''\n", "utf-8")
    scripted = Scripted.from_file("demo", rules)
    words = list(scripted.stream("slow"))
    assert "".join(words) == "one two  three"
    assert len(words) == 3

    async def awaited() -> list[str]:
        return [text async for text in scripted.asynchronous.stream("slow")]

    assert asyncio.run(awaited()) == words
    assert list(scripted.stream("else")) == []
