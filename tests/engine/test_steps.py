"""Durable steps: what a handler has called once answers its further attempts, whoever makes them."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext, NodeResult, RunSnapshot
from flowcraft_server.cli.client_output import print_run
from flowcraft_server.llm.calls import ModelReply, ModelRequest, TokenUsage
from flowcraft_server.llm.errors import LLMTimeout
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider
from flowcraft_server.testing import TestEnvironment

calls: Counter[str] = Counter()
parts: dict[str, Callable[..., Any]] = {}
"""What the handlers of the flows do, set by each test."""


def counted(name: str, value: Any = None) -> Any:
    calls[name] += 1
    return name if value is None else value


async def counted_later(name: str, value: Any = None) -> Any:
    await asyncio.sleep(0)
    return counted(name, value)


def plain(ctx: NodeContext) -> Any:
    return parts["it"](ctx)


async def coroutine(ctx: AsyncNodeContext) -> Any:
    return await parts["it"](ctx)


def decides(ctx: NodeContext) -> Any:
    return NodeResult(None, action="again" if ctx.iteration < 1 else "done")


FLOWS = {
    "plain": "nodes:\n  a: {uses: plain, config: {maxRetries: 3, retryDelay: 0}}\n",
    "coroutine": "nodes:\n  a: {uses: coroutine, config: {maxRetries: 3, retryDelay: 0}}\n",
    "items": "nodes:\n  each: {uses: map, inputs: items, params: {uses: plain}, config: {maxRetries: 3, retryDelay: 0}}\n",
    "loop": "nodes:\n  a: {uses: plain, config: {maxRetries: 3, retryDelay: 0}}\n"
    "  b: {uses: decides, needs: [a], next: {again: a, done: e}}\n  e: {uses: decides}\n",
}


class CountingModel(Provider):
    """A model that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__("counting", "m1")
        self.keys: list[str] = []
        self.failing = 0

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        calls[request.prompt] += 1
        self.keys.append(request.idempotency_key)
        if self.failing:
            self.failing -= 1
            raise LLMTimeout("no reply", provider="counting")
        return ModelReply(f"{request.prompt}:{calls[request.prompt]}", "m1", TokenUsage(3, 1, 2))

    async def acall(self, request: ModelRequest) -> ModelReply:
        return self.call(request)


MODEL = CountingModel()


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    handlers = {"plain": plain, "coroutine": coroutine, "decides": decides}
    models = LanguageModels({"counting": MODEL})
    with TestEnvironment(blueprints=FLOWS, handlers=handlers, models=models) as started:
        yield started


@pytest.fixture(autouse=True)
def _afresh() -> None:
    calls.clear()
    parts.clear()


def done(env: TestEnvironment, flow: str, it: Callable[..., Any], context: Any = None) -> RunSnapshot:
    parts["it"] = it
    run = env.client.start(flow, context or {})
    run.wait(timeout=30)
    return run.describe(outputs=True)


def keys_left(env: TestEnvironment) -> list[Any]:
    return [
        key
        for kind in ("steps", "values")
        for key in env.link.redis.scan_iter(f"fc:{{{env.keys.namespace}.*}}:{kind}:*")
    ]


class TestFurtherAttempts:
    def test_of_a_function_are_answered(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            plan = ctx.step("plan", counted, "plan", {"urls": ["a", "b"]})
            pages = ctx.gather(*[lambda u=u: ctx.step("fetch", counted, u) for u in plan["urls"]])
            large = ctx.step("large", counted, "large", "x" * 5000)
            if ctx.attempt < 3:
                raise ValueError("once more")
            return [pages, len(large), ctx.step("write", counted, "write")]

        snapshot = done(env, "plain", it)
        assert snapshot.nodes["a"].output == [["a", "b"], 5000, "write"], snapshot.failures
        assert calls == {"plan": 1, "a": 1, "b": 1, "large": 1, "write": 1}
        assert snapshot.nodes["a"].attempts == 3
        totals = snapshot.nodes["a"].step_totals
        assert totals is not None and totals.count == 5 and totals.bytes > 5000
        assert keys_left(env) == []

    def test_of_a_coroutine_are_answered(self, env: TestEnvironment) -> None:
        async def branch(ctx: AsyncNodeContext, name: str) -> Any:
            await asyncio.sleep(0.001 if name == "a" else 0)
            first = await ctx.step("fetch", counted_later, f"{name}1")
            return [first, await ctx.step("read", counted, f"{name}2")]

        async def it(ctx: AsyncNodeContext) -> Any:
            plan = await ctx.step("plan", counted, "plan", ["a", "b"])
            found = await ctx.gather(*[branch(ctx, name) for name in plan])
            rest = await ctx.gather(*[ctx.step(f"rest:{name}", counted_later, name) for name in plan])
            own = await asyncio.gather(*[ctx.step("own", counted, f"own{n}") for n in range(2)])
            if ctx.attempt < 3:
                raise ValueError("once more")
            return [found, rest, own]

        snapshot = done(env, "coroutine", it)
        expected = [[["a1", "a2"], ["b1", "b2"]], ["a", "b"], ["own0", "own1"]]
        assert snapshot.nodes["a"].output == expected, snapshot.failures
        assert set(calls.values()) == {1} and len(calls) == 9
        assert keys_left(env) == []

    def test_by_another_worker_are_answered(self, env: TestEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
        reached, go = threading.Event(), threading.Event()

        def it(ctx: NodeContext) -> Any:
            first = ctx.step("first", counted, "first")
            if calls["lost"] == 0:
                calls["lost"] += 1
                reached.set()
                go.wait(30)
                return None
            return [first, ctx.step("second", counted, "second")]

        parts["it"] = it
        first = env.workers[-1]
        run = env.client.start("plain")
        assert reached.wait(30)
        shown = run.describe().nodes["a"].steps
        assert [(step.name, step.kind, step.state, step.value) for step in shown] == [
            ("first", "step", "completed", "first")
        ]
        print_run(run.describe(), [], unfold=True)
        printed = capsys.readouterr().out
        assert "1 step" in printed and "  first" in printed
        env.kill_worker(first)
        env.clock.advance("11s", keep_leases=False)
        env.add_worker()
        run.wait(timeout=30)
        go.set()
        assert run.describe(outputs=True).nodes["a"].output == ["first", "second"]
        assert calls == {"first": 1, "second": 1, "lost": 1}

    def test_in_a_process_that_the_handler_forks_are_recorded(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            if ctx.attempt == 1:
                if (child := os.fork()) == 0:
                    ctx.step("forked", counted, "forked")
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                raise ValueError("once more")
            return ctx.step("forked", counted, "not called")

        assert done(env, "plain", it).nodes["a"].output == "forked"
        assert calls == {}


class TestOrder:
    def test_another_name_at_the_place_of_a_step_fails_the_node(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            ctx.step("plan", counted, "plan")
            ctx.step("b" if ctx.attempt == 1 else "c", counted, "second")
            raise ValueError("once more")

        failure = done(env, "plain", it).failures[0]
        assert failure.type == "StepMismatchError" and not failure.retryable, failure
        assert "asks for step 'c' as number 2, but recorded there is step 'b'" in failure.message
        assert failure.details == {"asked": "c", "recorded": "b"}
        assert failure.attempt == 2
        assert keys_left(env) == []

    def test_a_step_that_comes_earlier_than_recorded_fails_the_node(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            if ctx.attempt == 1:
                with pytest.raises(KeyError):
                    ctx.step("fails", failing, KeyError("x"))
            ctx.step("late", counted, "late")
            raise ValueError("once more")

        failure = done(env, "plain", it).failures[0]
        assert "asks for step 'late' as number 1, but recorded it is number 2" in failure.message
        assert calls == {"late": 1}

    def test_steps_in_tasks_of_a_handlers_own_are_found_by_name(self, env: TestEnvironment) -> None:
        async def both(ctx: AsyncNodeContext, name: str, late: bool) -> Any:
            for _ in range(3 if late else 0):
                await asyncio.sleep(0)
            return [await ctx.step(f"{name}1", counted, f"{name}1"), await ctx.step(f"{name}2", counted, f"{name}2")]

        async def it(ctx: AsyncNodeContext) -> Any:
            a_is_late = ctx.attempt == 1
            found = await asyncio.gather(both(ctx, "a", a_is_late), both(ctx, "b", not a_is_late))
            if ctx.attempt == 1:
                raise ValueError("once more")
            return found

        assert done(env, "coroutine", it).nodes["a"].output == [["a1", "a2"], ["b1", "b2"]]
        assert set(calls.values()) == {1}

    def test_a_name_that_is_used_again_gets_a_counter(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            found = [ctx.step("poll", counted, f"poll{n}") for n in range(3)]
            names = [
                event.data["name"]
                for event in env.client.get_handle(ctx.run_id).events(follow=False)
                if event.type == "step_recorded"
            ]
            return [found, names]

        assert done(env, "plain", it).nodes["a"].output == [["poll0", "poll1", "poll2"], ["poll", "poll#2", "poll#3"]]


def failing(error: Exception) -> None:
    raise error


class TestFailures:
    def test_a_failure_answers_nothing_and_is_seen(self, env: TestEnvironment) -> None:
        seen: list[Any] = []

        def unsteady(value: int) -> int:
            calls["unsteady"] += 1
            if calls["unsteady"] < 4:
                raise ValueError(f"number {calls['unsteady']}")
            return value

        def it(ctx: NodeContext) -> Any:
            if ctx.attempt == 2:
                seen.extend(env.client.get_handle(ctx.run_id).describe().nodes["a"].steps)
            return ctx.step("unsteady", unsteady, 7, retries=1, retry_delay=0)

        snapshot = done(env, "plain", it)
        assert snapshot.nodes["a"].output == 7 and snapshot.nodes["a"].attempts == 2
        assert [(step.name, step.state, step.error, step.tries) for step in seen] == [
            ("unsteady", "failed", "ValueError: number 2", 2)
        ]
        events = [
            event
            for event in env.client.get_handle(snapshot.run_id).events(follow=False)
            if event.type.startswith("step_")
        ]
        assert [(event.type, event.data.get("error", {}).get("message")) for event in events] == [
            *[("step_failed", f"number {number}") for number in (1, 2, 3)], ("step_recorded", None),
        ]  # fmt: skip
        assert events[-1].data["bytes"] == 1 and events[-1].data["tries"] == 2

    def test_steps_within_a_step_are_recorded_until_it_fails(self, env: TestEnvironment) -> None:
        """So a step that asks and checks can ask anew; and what was paid for within one that is cut off is not paid again."""

        async def it(ctx: AsyncNodeContext) -> Any:
            async def ask_and_check() -> Any:
                await ctx.step("ask", counted, "ask")
                await ctx.step("ask", counted, "ask")
                if calls["ask"] < 6:
                    raise ValueError("no good answer")
                return "good"

            return await ctx.step("verdict", ask_and_check, retries=1, retry_delay=0)

        snapshot = done(env, "coroutine", it)
        assert snapshot.nodes["a"].output == "good" and snapshot.nodes["a"].attempts == 2
        assert calls == {"ask": 6}

    def test_time_limits(self, env: TestEnvironment) -> None:
        never = threading.Event()

        def it(ctx: NodeContext) -> Any:
            return ctx.step("slow", never.wait, 30, timeout=0.01)

        async def waits(ctx: AsyncNodeContext) -> Any:
            await ctx.step("slow", asyncio.sleep, 30, timeout="10ms")

        for flow, handler in (("plain", it), ("coroutine", waits)):
            failure = done(env, flow, handler).failures[0]
            assert failure.type == "StepTimeoutError" and failure.attempt == 3, failure
            assert failure.message == "step 'slow' took longer than 0.01 s"
        never.set()

    def test_values_follow_the_rules_of_outputs(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            with pytest.raises(Exception, match="value of step 'set'"):
                ctx.step("set", lambda: object())
            return ctx.step("pair", lambda: (1, {"at": 2}))

        assert done(env, "plain", it).nodes["a"].output == [1, {"at": 2}]

    def test_mistakes_say_what_to_write(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            with pytest.raises(TypeError, match="a step takes a function"):
                ctx.step("a", 1)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="make the handler one, too"):
                ctx.step("a", counted_later, "a")
            with pytest.raises(
                TypeError, match=r"write ctx.step\(name, counted_later, ...\), not counted_later\(...\)"
            ):
                ctx.step("a", counted_later("a"))  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="takes functions without arguments"):
                ctx.gather(ctx.step("b", counted, "b"))
            with pytest.raises(ValueError, match="one line of text"):
                ctx.step("a\nb", counted, "a")

        async def unawaited(ctx: AsyncNodeContext) -> Any:
            ctx.step("plan", counted, "plan")

        assert done(env, "plain", it).status == "completed"
        failure = done(env, "coroutine", unawaited).failures[0]
        assert "ctx.step('plan', ...) was not awaited" in failure.message


class TestSpaces:
    def test_items_have_their_own(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            found = ctx.step("fetch", counted, f"item{ctx.item}")
            if ctx.attempt == 1:
                raise ValueError("once more")
            return found

        snapshot = done(env, "items", it, {"items": [1, 2, 3]})
        assert snapshot.nodes["each"].output == ["item0", "item1", "item2"], snapshot.failures
        assert set(calls.values()) == {1}
        totals = snapshot.nodes["each"].step_totals
        assert totals is not None and totals.count == 3
        assert keys_left(env) == []

    def test_rounds_and_reruns_have_their_own(self, env: TestEnvironment) -> None:
        def it(ctx: NodeContext) -> Any:
            found = ctx.step("fetch", counted, f"round{ctx.iteration}")
            if ctx.attempt == 1:
                raise ValueError("once more")
            return found

        snapshot = done(env, "loop", it)
        assert snapshot.status == "completed", snapshot.failures
        assert calls == {"round0": 1, "round1": 1}
        names = [
            event.node_id
            for event in env.client.get_handle(snapshot.run_id).events(follow=False)
            if event.type == "step_recorded"
        ]
        assert names == ["a#0", "a#1"]
        again = env.client.get_handle(snapshot.run_id).rerun("a")
        again.wait(timeout=30)
        assert calls == {"round0": 2, "round1": 2}
        assert keys_left(env) == []

    def test_a_cancelled_run_leaves_nothing(self, env: TestEnvironment) -> None:
        async def it(ctx: AsyncNodeContext) -> Any:
            await ctx.step("large", counted, "large", "x" * 5000)
            await ctx.step("endless", asyncio.sleep, 60)

        parts["it"] = it
        run = env.client.start("coroutine")
        events = run.events()
        next(event for event in events if event.type == "step_recorded")
        assert len(keys_left(env)) == 2
        run.cancel()
        assert run.wait(timeout=30).status == "cancelled"
        assert keys_left(env) == []


class TestModels:
    """`ctx.llm.complete` records itself."""

    @pytest.fixture
    def model(self) -> CountingModel:
        MODEL.keys.clear()
        return MODEL

    def test_an_answered_call_is_not_made_again(self, env: TestEnvironment, model: CountingModel) -> None:
        def it(ctx: NodeContext) -> Any:
            found = [ctx.llm.complete("a"), ctx.llm.complete("b")]
            ctx.step("save", counted, "save")
            if ctx.attempt < 3:
                raise ValueError("once more")
            return found

        async def later(ctx: AsyncNodeContext) -> Any:
            found = await asyncio.gather(*[ctx.llm.complete(text) for text in ("c", "d", "d")])
            await ctx.step("save", counted, "save2")
            if ctx.attempt < 3:
                raise ValueError("once more")
            return found

        snapshot = done(env, "plain", it)
        assert snapshot.nodes["a"].output == ["a:1", "b:1"], snapshot.failures
        assert done(env, "coroutine", later).nodes["a"].output == ["c:1", "d:1", "d:2"]
        assert calls == {"a": 1, "b": 1, "save": 1, "c": 1, "d": 2, "save2": 1}
        assert len(set(model.keys)) == 5 and all(model.keys)
        events = [
            event
            for event in env.client.get_handle(snapshot.run_id).events(follow=False)
            if event.type == "step_recorded"
        ]
        details = events[0].data["details"]
        expected = {"model": "m1", "input": 3, "cached": 1, "output": 2, "finishReason": "stop"}
        assert {name: details.get(name) for name in expected} == expected

    def test_a_reply_that_the_handler_fails_on_is_asked_for_anew(
        self, env: TestEnvironment, model: CountingModel
    ) -> None:
        def it(ctx: NodeContext) -> Any:
            plan = ctx.llm.complete("plan")
            verdict = ctx.llm.complete("verdict")
            if verdict != "verdict:3":
                raise ValueError(f"neither yes nor no: {verdict}")
            return [plan, verdict]

        snapshot = done(env, "plain", it)
        assert snapshot.nodes["a"].output == ["plan:1", "verdict:3"], snapshot.failures
        assert calls == {"plan": 1, "verdict": 3}
        assert len(set(model.keys)) == 4, "a provider that knows the key would give the same reply again"

    def test_a_call_without_an_answer_is_repeated_with_the_same_key(
        self, env: TestEnvironment, model: CountingModel
    ) -> None:
        def it(ctx: NodeContext) -> Any:
            first = ctx.llm.complete("first")
            model.failing = int(ctx.attempt == 1)
            return [first, ctx.llm.complete("second")]

        assert done(env, "plain", it).nodes["a"].output == ["first:1", "second:2"]
        assert calls == {"first": 1, "second": 2}
        assert model.keys[1] == model.keys[2] != model.keys[0]

    def test_another_request_is_no_repetition(self, env: TestEnvironment, model: CountingModel) -> None:
        def it(ctx: NodeContext) -> Any:
            found = [ctx.llm.complete(f"attempt {ctx.attempt}"), ctx.llm.complete("same")]
            ctx.step("save", counted, "save")
            if ctx.attempt == 1:
                raise ValueError("once more")
            return found

        assert done(env, "plain", it).nodes["a"].output == ["attempt 2:1", "same:1"]
        assert calls == {"attempt 1": 1, "attempt 2": 1, "same": 1, "save": 1}


def test_the_doctor_finds_what_is_left_of_steps(env: TestEnvironment) -> None:
    def it(ctx: NodeContext) -> Any:
        return ctx.step("a", counted, "a")

    run_id = done(env, "plain", it).run_id
    keys, redis = env.client.deployment.partitions.for_run(run_id), env.link.redis
    assert env.client.admin.examine(run_id) == []
    redis.hset(keys.steps(run_id, "a"), "1", "0|[]")
    redis.hset(keys.run(run_id), "sz:a", "what is this")
    assert sorted(defect.kind for defect in env.client.admin.examine(run_id, fix=True)) == [
        "field-broken",
        "steps-left",
    ]
    assert env.client.admin.examine(run_id) == [] and keys_left(env) == []
