"""Text that handlers stream: in order, without gaps and repeats, a stream for each execution, ended with how the node did."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from flowcraft_sdk import (
    AsyncClient,
    AsyncNodeContext,
    ConfigurationError,
    NodeContext,
    NodeNotFoundError,
    NodeStatus,
    NonRetryableError,
    RunNotFoundError,
    StreamEnded,
    StreamGap,
    StreamItem,
    StreamStarted,
    StreamText,
    WaitTimeoutError,
)
from flowcraft_sdk.protocol.wire import dumps
from flowcraft_server.llm import LanguageModels, ModelReply, ModelRequest, Scripted
from flowcraft_server.testing import TestEnvironment, run_handler
from flowcraft_server.worker import text_streams
from flowcraft_server.worker.settings import WorkerSettings

FLOWS = {
    "writes": "nodes:\n  a: {uses: writes, config: {maxRetries: 2}}\n",
    "on_the_loop": "nodes:\n  a: {uses: writes_on_the_loop, config: {maxRetries: 2}}\n",
    "large": "nodes:\n  a: {uses: writes_much}\n",
    "secret": "nodes:\n  a: {uses: tells_a_secret}\n",
    "parts": "nodes:\n  a: {uses: writes_parts}\n",
    "loop": "nodes:\n  a: {uses: counts, next: {again: a, done: b}}\n  b: {uses: writes_parts}\n",
    "asks": "nodes:\n  a: {uses: asks}\n  b: {uses: asks_on_the_loop}\n",
    "again": (
        "nodes:\n  a: {uses: asks_again, config: {maxRetries: 2}}\n"
        "  b: {uses: asks_again_on_the_loop, config: {maxRetries: 2}}\n"
    ),
    "batch": "nodes:\n  s: {uses: map, inputs: items, params: {uses: writes_item}}\n",
}
SECRET = "sk-streamed-secret-17"


class Steps:
    """What a handler is to do, given by the test one after the other; it says when it has."""

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {}
        self.changed = threading.Condition()

    def give(self, run_id: str, *steps: str) -> None:
        with self.changed:
            self.given.setdefault(run_id, []).extend(steps)
            self.changed.notify_all()

    def next(self, run_id: str) -> str:
        with self.changed:
            assert self.changed.wait_for(lambda: self.given.get(run_id), timeout=30)
            return self.given[run_id].pop(0)


STEPS = Steps()


def writes(ctx: NodeContext) -> str:
    while (step := STEPS.next(ctx.run_id)) != "done":
        if step == "fail":
            raise ValueError("once more")
        if step == "fail for good":
            raise NonRetryableError("no more")
        ctx.stream_text(step)
    return "the whole"


async def writes_on_the_loop(ctx: AsyncNodeContext) -> str:
    while (step := await asyncio.to_thread(STEPS.next, ctx.run_id)) != "done":
        if step == "fail":
            raise ValueError("once more")
        ctx.stream_text(step)
    return "the whole"


def writes_much(ctx: NodeContext) -> None:
    for number in range(40):
        ctx.stream_text(f"{number:9d}." * 2_000)


def tells_a_secret(ctx: NodeContext) -> None:
    for letter in f"key {SECRET} was told, s":
        ctx.stream_text(letter)


def writes_parts(ctx: NodeContext) -> None:
    ctx.stream_text("one", part="first")
    ctx.stream_text("two", part="second")
    ctx.stream_text("three", part="second")


def asks(ctx: NodeContext) -> str:
    return "".join(ctx.llm.stream("slow"))


async def asks_on_the_loop(ctx: AsyncNodeContext) -> str:
    return "".join([piece async for piece in ctx.llm.stream("slow")])


def asks_again(ctx: NodeContext) -> str:
    text = "".join(ctx.llm.stream("slow"))
    ctx.step("save", len, text)
    ctx.stream_text(f" attempt {ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("once more")
    return text


async def asks_again_on_the_loop(ctx: AsyncNodeContext) -> str:
    text = "".join([piece async for piece in ctx.llm.stream("slow")])
    await ctx.step("save", len, text)
    ctx.stream_text(f" attempt {ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("once more")
    return text


def counts(ctx: NodeContext) -> object:
    from flowcraft_sdk import NodeResult

    ctx.stream_text(f"round {ctx.iteration}")
    return NodeResult(None, action="again" if ctx.iteration < 2 else "done")


def writes_item(ctx: NodeContext) -> None:
    ctx.stream_text(f"item {ctx.item}")


HANDLERS = {
    each.__name__: each
    for each in (
        asks, asks_on_the_loop, asks_again, asks_again_on_the_loop, writes, writes_on_the_loop, writes_much, tells_a_secret, writes_parts, counts, writes_item
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestEnvironment]:
    settings = WorkerSettings(secrets=(SECRET,))
    rules = tmp_path_factory.mktemp("llm") / "rules.yaml"
    rules.write_text("default: {reply: One by one., latency: 20ms}\n", "utf-8")
    models = LanguageModels({"demo": CountingModel.from_file("demo", rules)})
    with TestEnvironment(blueprints=FLOWS, handlers=HANDLERS, settings=settings, models=models) as env:
        yield env


def text_of(items: list[StreamItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, StreamText))


def read_text(items: Iterator[StreamItem], text: str) -> list[StreamItem]:
    """Items up to a text, which has to come in these pieces or others."""
    found: list[StreamItem] = []
    while text_of(found) != text:
        found.append(next(items))
        assert text.startswith(text_of(found))
    return found


@pytest.mark.parametrize("flow", ["writes", "on_the_loop"])
def test_text_comes_while_the_node_runs_and_the_end_says_how_it_ended(env: TestEnvironment, flow: str) -> None:
    handle = env.client.start(flow)
    items = handle.stream("a", timeout=30)
    STEPS.give(handle.run_id, "Hel", "lo ")
    begun = read_text(items, "Hello ")
    assert isinstance(begun[0], StreamStarted)
    assert begun[0].attempt == 1
    STEPS.give(handle.run_id, "wörld")
    rest = read_text(items, "wörld")
    late = list(read_text(handle.stream("a", timeout=30), "Hello wörld"))
    assert [type(item) for item in late] == [StreamStarted, StreamText], "pieces that are there are one"
    STEPS.give(handle.run_id, "!", "done")
    left = list(items)
    assert text_of(left) == "!"
    assert isinstance(left[-1], StreamEnded)
    assert left[-1].status is NodeStatus.COMPLETED
    for after, text in ((begun[-1].id, "wörld!"), (rest[-1].id, "!"), (left[-1].id, "")):
        again = list(handle.stream("a", after=after, timeout=30))
        assert text_of(again) == text
        assert again[-1] == left[-1]
    assert not [event for event in handle.events() if event.type not in _USUAL], "nothing of it is in the history"


_USUAL = {"run_begun", "run_started", "run_queued", "node_started", "node_completed", "run_ended", "node_begun"}


@pytest.mark.parametrize("flow", ["writes", "on_the_loop"])
def test_a_retry_starts_a_new_stream_and_says_so(env: TestEnvironment, flow: str) -> None:
    handle = env.client.start(flow)
    items = handle.stream("a", timeout=60)
    STEPS.give(handle.run_id, "wrong", "fail")
    first = read_text(items, "wrong")
    STEPS.give(handle.run_id, "right", "done")
    second = list(items)
    assert isinstance(second[0], StreamStarted)
    assert second[0].attempt == 2
    assert text_of(second) == "right"
    behind = list(handle.stream("a", after=first[-1].id, timeout=30))
    assert [type(item) for item in behind] == [StreamStarted, StreamText, StreamEnded]


def test_the_end_says_that_the_node_failed_or_was_cancelled(env: TestEnvironment) -> None:
    handle = env.client.start("writes")
    STEPS.give(handle.run_id, "never", "fail for good")
    items = list(handle.stream("a", timeout=30))
    assert text_of(items) == "never"
    assert isinstance(items[-1], StreamEnded)
    assert items[-1].status is NodeStatus.FAILED
    handle = env.client.start("writes")
    STEPS.give(handle.run_id, "never")
    follow = handle.stream("a", timeout=30)
    read_text(follow, "never")
    handle.cancel(grace=0)
    assert [item.status for item in follow if isinstance(item, StreamEnded)] == [NodeStatus.CANCELLED]
    STEPS.give(handle.run_id, "too late", "done")


def test_what_is_not_kept_is_a_gap(env: TestEnvironment) -> None:
    handle = env.client.start("large")
    handle.wait(timeout=30)
    items = list(handle.stream("a", timeout=30))
    assert isinstance(items[0], StreamStarted)
    assert any(isinstance(item, StreamGap) for item in items)
    text = text_of(items)
    assert text.endswith(f"{39:9d}." * 2_000)
    assert len(text) < text_streams.KEPT_BYTES


def test_secrets_are_masked_however_they_are_cut(env: TestEnvironment) -> None:
    handle = env.client.start("secret")
    assert text_of(list(handle.stream("a", timeout=30))) == "key ******** was told, s"


def test_parts_are_told_apart(env: TestEnvironment) -> None:
    handle = env.client.start("parts")
    items = [item for item in handle.stream("a", timeout=30) if isinstance(item, StreamText)]
    assert [(item.part, item.text) for item in items] == [("first", "one"), ("second", "twothree")]


def test_a_model_s_reply_is_streamed_as_it_comes(env: TestEnvironment) -> None:
    handle = env.client.start("asks")
    for node in ("a", "b"):
        items = list(handle.stream(node, timeout=30))
        assert text_of(items) == "One by one."
        assert isinstance(items[-1], StreamEnded)
    assert handle.wait(timeout=30).nodes["a"].output == "One by one."


class CountingModel(Scripted):
    """Notes what it is asked."""

    asked: ClassVar[list[str]] = []

    def call_streaming(self, request: ModelRequest, on_piece: Any, **options: Any) -> ModelReply:
        self.asked.append(request.prompt)
        return super().call_streaming(request, on_piece, **options)

    async def acall_streaming(self, request: ModelRequest, on_piece: Any) -> ModelReply:
        self.asked.append(request.prompt)
        return await super().acall_streaming(request, on_piece)


def test_a_recorded_reply_is_neither_asked_for_nor_streamed_again(env: TestEnvironment) -> None:
    CountingModel.asked.clear()
    handle = env.client.start("again")
    for node in ("a", "b"):
        handle.wait(timeout=30)
        items = list(handle.stream(node, timeout=30))
        assert isinstance(items[0], StreamStarted)
        assert (items[0].attempt, text_of(items)) == (2, " attempt 2")
        assert handle.describe(outputs=True).nodes[node].output == "One by one."
    assert CountingModel.asked == ["slow", "slow"], "once by each node"


def test_a_node_in_a_loop_is_followed_through_its_rounds(env: TestEnvironment) -> None:
    handle = env.client.start("loop")
    items = list(handle.stream("a", timeout=30))
    assert text_of(items).endswith("round 2")
    assert [type(item) for item in items].count(StreamEnded) == 1


def test_items_of_a_batch_have_streams_of_their_own(env: TestEnvironment) -> None:
    handle = env.client.start("batch", {"items": ["x", "y"]})
    handle.wait(timeout=30)
    for number in range(2):
        items = list(handle.stream(f"s[{number}]", timeout=30))
        assert text_of(items) == f"item {number}"
        assert isinstance(items[-1], StreamEnded)
        assert items[-1].status is NodeStatus.COMPLETED


def test_what_cannot_be_followed_is_refused_at_once(env: TestEnvironment) -> None:
    handle = env.client.start("writes")
    with pytest.raises(NodeNotFoundError, match="has no node 'b'"):
        list(handle.stream("b"))
    with pytest.raises(ConfigurationError, match="after is the id of an item"):
        list(handle.stream("a", after="7"))
    with pytest.raises(RunNotFoundError):
        list(env.client.get_handle("nowhere").stream("a"))
    with pytest.raises(WaitTimeoutError):
        list(handle.stream("a", timeout=0))
    STEPS.give(handle.run_id, "done")
    assert [type(item) for item in handle.stream("a", timeout=30)] == [StreamEnded]


def test_a_lost_connection_repeats_and_loses_nothing(env: TestEnvironment) -> None:
    handle = env.client.start("writes")
    items = handle.stream("a", timeout=60)
    for number in range(5):
        STEPS.give(handle.run_id, str(number))
        read_text(items, str(number))
        env.link.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    STEPS.give(handle.run_id, "5", "done")
    assert text_of(list(items)) == "5"


def test_the_async_client_follows_too(env: TestEnvironment) -> None:
    async def follow() -> list[StreamItem]:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            handle = await client.start("parts")
            return [item async for item in handle.stream("a", timeout=30)]

    items = asyncio.run(follow())
    assert text_of(items) == "onetwothree"
    assert isinstance(items[-1], StreamEnded)


def test_a_handler_is_tried_alone() -> None:
    done = run_handler(writes_parts)
    assert done.streamed == (("first", "one"), ("second", "two"), ("second", "three"))
    with pytest.raises(TypeError, match="stream_text takes a text"):
        run_handler(lambda ctx: ctx.stream_text(7))
    assert dumps(done.output) == b"null"
