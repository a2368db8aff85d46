"""Nodes are parked while their model calls wait for the limits of a provider, and are run again when there is room."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext, NodeStatus, RunStatus, handler
from flowcraft_sdk.protocol import scripts
from flowcraft_server.cli.client_output import about_node
from flowcraft_server.llm import Endpoint, LanguageModels, OpenAICompatible, RetryPolicy
from flowcraft_server.llm.call_gate import CallLimit
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.unit.llm.chat_server import Answer, ChatServer, chat_server, refusal, reply

Make = Callable[..., TestEnvironment]

HOURLY = CallLimit(requests=1 / 3600)
PATIENCE = 20.0
BLUEPRINTS = {"ask": "nodes: {a: {uses: ask}}", "other": "nodes: {b: {uses: other}}"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)
    return found


@handler(parks=True)
def ask(ctx: NodeContext) -> str:
    return ctx.llm.complete(f"question of {ctx.run_id}")


@handler(parks=True)
async def aask(ctx: AsyncNodeContext) -> str:
    return await ctx.llm.complete(f"question of {ctx.run_id}")


Asking = Callable[..., tuple[TestEnvironment, ChatServer]]


@pytest.fixture
def asking(environment: Make) -> Iterator[Asking]:
    with ExitStack() as stack:

        def make(
            *answers: Answer, limit: CallLimit, function: Any = ask, **more: Any
        ) -> tuple[TestEnvironment, ChatServer]:
            server = stack.enter_context(chat_server(*(answers or (reply("ok"),))))
            endpoint = Endpoint(
                server.url, "key", "m", 20.0, 50, RetryPolicy(initial=0.01, max_delay=0.02), limit=limit
            )
            models = LanguageModels({"main": OpenAICompatible("main", endpoint)})
            handlers = {"ask": function, "other": lambda ctx: "other", **more.pop("handlers", {})}
            blueprints = more.pop("blueprints", BLUEPRINTS)
            return environment(blueprints=blueprints, handlers=handlers, models=models, **more), server

        yield make


def node_of(handle: Any, name: str = "a") -> Any:
    return handle.describe().nodes[name]


def is_parked(handle: Any, name: str = "a") -> bool:
    node = node_of(handle, name)
    return bool(node.status is NodeStatus.WAITING and node.waiting_for == "model")


@pytest.mark.parametrize("function", [ask, aask])
def test_nodes_over_a_limit_hold_no_thread_and_go_on_in_turn(asking: Asking, function: Any) -> None:
    env, server = asking(limit=HOURLY, function=function, settings=WorkerSettings(threads=2))
    first = env.client.start("ask", run_id="first")
    assert first.result(timeout=PATIENCE) == {"a": "ok"}
    others = []
    for number in range(4):
        others.append(env.client.start("ask", run_id=f"run{number}"))
        eventually(lambda: is_parked(others[-1]))
    assert env.client.execute("other", timeout=PATIENCE) == {"b": "other"}
    node = node_of(others[0])
    assert node.blocked_by == "the limits of model 'main/m'"
    assert about_node(node) == "waits for room in the limits of model 'main/m'"
    assert node.attempts == 1
    (defect,) = env.client.admin.examine("run3")
    assert defect.explanation.startswith(
        "node 'a' is parked until there is room in the limits of model 'main/m': 4 calls wait"
    )
    assert others[0].describe().status is RunStatus.WAITING
    for handle in others:
        env.clock.advance("61m", keep_leases=True)
        assert handle.result(timeout=PATIENCE) == {"a": "ok"}
        assert node_of(handle).attempts == 1
    assert [each["messages"][0]["content"] for each in server.requests] == [
        "question of first",
        *(f"question of run{number}" for number in range(4)),
    ]


def test_handlers_that_do_not_say_that_they_may_be_parked_wait_in_their_place(asking: Asking) -> None:
    calls: list[str] = []

    def plain(ctx: NodeContext) -> str:
        calls.append(ctx.run_id)
        return ctx.llm.complete("question")

    env, server = asking(limit=HOURLY, function=plain)
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    second = env.client.start("ask", run_id="second")
    eventually(lambda: env.link.redis.zcard(env.keys.calls("main/m")) == 1)
    env.clock.advance("61m", keep_leases=True)
    assert second.result(timeout=PATIENCE) == {"a": "ok"}
    assert calls.count("second") == 1
    assert len(server.requests) == 2


def test_all_are_parked_until_a_provider_takes_calls_again(asking: Asking) -> None:
    env, server = asking(refusal(429, "too many", retry_after="1800"), reply("ok"), limit=CallLimit(), workers=2)
    handles = [env.client.start("ask")]
    eventually(lambda: is_parked(handles[0]))
    handles += [env.client.start("ask") for _ in range(4)]
    eventually(lambda: all(is_parked(handle) for handle in handles))
    assert len(server.requests) == 1
    (defect,) = env.client.admin.examine(handles[0].run_id)
    assert "its provider wants no calls for 1" in defect.explanation
    env.clock.advance("31m", keep_leases=True)
    assert [handle.result(timeout=PATIENCE) for handle in handles] == [{"a": "ok"}] * 5
    assert len(server.requests) == 6


def test_calls_that_were_answered_before_are_not_made_again(asking: Asking) -> None:
    runs: list[int] = []

    @handler(parks=True)
    async def thrice(ctx: AsyncNodeContext) -> list[str]:
        runs.append(ctx.attempt)
        return [await ctx.llm.complete(f"question {number}") for number in range(3)]

    env, server = asking(limit=HOURLY, function=thrice)
    handle = env.client.start("ask")
    for number in range(3):
        eventually(lambda count=number + 1: len(server.requests) == count)
        if number < 2:
            eventually(lambda: is_parked(handle))
            assert len(handle.describe().nodes["a"].steps) == number + 1
            env.clock.advance("61m", keep_leases=True)
    assert handle.result(timeout=PATIENCE) == {"a": ["ok"] * 3}
    assert len(server.requests) == 3
    assert set(runs) == {1}


def test_a_node_is_not_parked_while_another_of_its_calls_is_under_way(asking: Asking) -> None:
    begun, may_end = threading.Event(), threading.Event()

    @handler(parks=True)
    async def both(ctx: AsyncNodeContext) -> list[str]:
        def slow() -> str:
            begun.set()
            assert may_end.wait(PATIENCE)
            return "slow"

        return list(await ctx.gather(ctx.step("slow", slow), ctx.llm.complete("question")))

    env, _server = asking(limit=HOURLY, function=both)
    taken = env.client.start("ask")
    may_end.set()
    assert taken.result(timeout=PATIENCE) == {"a": ["slow", "ok"]}
    begun.clear()
    may_end.clear()
    handle = env.client.start("ask")
    assert begun.wait(PATIENCE)
    eventually(lambda: env.link.redis.zcard(env.keys.calls("main/m")) == 1)
    assert not is_parked(handle)
    may_end.set()
    eventually(lambda: is_parked(handle))
    assert [step.name for step in handle.describe().nodes["a"].steps] == ["slow"]
    begun.clear()
    env.clock.advance("61m", keep_leases=True)
    assert handle.result(timeout=PATIENCE) == {"a": ["slow", "ok"]}
    assert not begun.is_set()


def test_a_handler_that_catches_everything_is_left_all_the_same(asking: Asking) -> None:
    @handler(parks=True)
    async def careless(ctx: AsyncNodeContext) -> str:
        replies = await asyncio.gather(ctx.llm.complete("question"), return_exceptions=True)
        if isinstance(replies[0], BaseException):
            raise RuntimeError("no reply")
        return str(replies[0])

    env, server = asking(limit=HOURLY, function=careless)
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    handle = env.client.start("ask")
    eventually(lambda: is_parked(handle))
    env.clock.advance("61m", keep_leases=True)
    assert handle.result(timeout=PATIENCE) == {"a": "ok"}
    assert len(server.requests) == 2


def test_limits_hold_and_nodes_go_on_when_all_workers_are_killed(asking: Asking) -> None:
    env, server = asking(limit=HOURLY, workers=2)
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    handles = [env.client.start("ask") for _ in range(3)]
    eventually(lambda: all(is_parked(handle) for handle in handles))
    for worker in list(env.workers):
        env.kill_worker(worker)
    env.add_worker()
    for count in range(2, 5):
        env.clock.advance("61m", keep_leases=True)
        eventually(lambda count=count: len(server.requests) == count)
    assert [handle.result(timeout=PATIENCE) for handle in handles] == [{"a": "ok"}] * 3


def test_a_parked_node_is_cancelled_with_its_run_and_leaves_its_turn(asking: Asking) -> None:
    env, server = asking(limit=HOURLY)
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    first, second = env.client.start("ask"), None
    eventually(lambda: is_parked(first))
    second = env.client.start("ask")
    eventually(lambda: is_parked(second))
    first.cancel()
    assert first.wait(timeout=PATIENCE).status is RunStatus.CANCELLED
    env.clock.advance("61m", keep_leases=True)
    assert second.result(timeout=PATIENCE) == {"a": "ok"}
    assert len(server.requests) == 2


def test_items_of_a_batch_are_parked_one_by_one(asking: Asking) -> None:
    blueprint = {"ask": "inputs: {list: 'list'}\nnodes: {a: {uses: map, inputs: list, params: {uses: ask}}}"}
    env, server = asking(limit=HOURLY, blueprints=blueprint)
    handle = env.client.start("ask", {"list": [1, 2, 3]})
    eventually(lambda: sum(each.waiting_for == "model" for each in handle.describe().nodes.values()) == 2)
    for count in (2, 3):
        env.clock.advance("61m", keep_leases=True)
        eventually(lambda count=count: len(server.requests) == count)
    assert handle.result(timeout=PATIENCE)["a"] == ["ok"] * 3
    assert len(server.requests) == 3


def test_an_agent_is_parked_between_its_calls(asking: Asking) -> None:
    pytest.importorskip("pydantic_ai")
    from tests.engine.test_agents import Query, calls

    blueprint = {
        "ask": "nodes: {a: {uses: agent, inputs: {q: q}, params: {model: main, tools: [look]}}}\ninputs: {q: string}"
    }
    look = handler(description="Look.", arguments=Query)(lambda ctx: "found")
    answers = calls(("look", {"text": "x"})), reply("done")
    env, server = asking(*answers, limit=HOURLY, blueprints=blueprint, handlers={"look": look})
    handle = env.client.start("ask", {"q": "?"})
    eventually(lambda: is_parked(handle))
    assert len(server.requests) == 1
    env.clock.advance("61m", keep_leases=True)
    assert handle.result(timeout=PATIENCE)["a"] == "done"
    assert len(server.requests) == 2
    assert node_of(handle).attempts == 1


def owed(env: TestEnvironment) -> float:
    """For how many ms the bucket of tokens is empty."""
    seconds, micros = env.link.redis.time()
    return float(env.link.redis.hget(env.keys.pace("main/m"), "tokens") or 0) - seconds * 1000 - micros / 1000


def test_calls_of_agents_count_with_the_tokens_that_they_have_used(asking: Asking) -> None:
    pytest.importorskip("pydantic_ai")
    body = json.loads(reply("done").body)
    body["usage"] = {"prompt_tokens": 50_000, "completion_tokens": 10_000, "total_tokens": 60_000}
    blueprint = {"ask": "nodes: {a: {uses: agent, inputs: {q: q}, params: {model: main}}}\ninputs: {q: string}"}
    limit = CallLimit(tokens=1.0)
    env, server = asking(Answer(body=json.dumps(body)), limit=limit, blueprints=blueprint)
    assert env.client.start("ask", {"q": "?"}).result(timeout=PATIENCE)["a"] == "done"
    eventually(lambda: owed(env) > 55_000_000)  # ms at a token a second; a reply is expected to have 500
    second = env.client.start("ask", {"q": "?"})
    eventually(lambda: is_parked(second))
    assert len(server.requests) == 1
    env.clock.advance("18h", keep_leases=True)
    assert second.result(timeout=PATIENCE)["a"] == "done"


def test_what_a_long_prompt_of_an_agent_takes_is_expected_before_it_is_sent(asking: Asking) -> None:
    pytest.importorskip("pydantic_ai")
    blueprint = {"ask": "nodes: {a: {uses: agent, inputs: {q: q}, params: {model: main}}}\ninputs: {q: string}"}
    env, _server = asking(limit=CallLimit(tokens=1.0), blueprints=blueprint, workers=1)
    assert env.client.start("ask", {"q": "?"}).result(timeout=PATIENCE)["a"] == "ok"
    second = env.client.start("ask", {"q": "x" * 40_000})
    eventually(lambda: is_parked(second))
    (expected,) = env.link.redis.hmget(env.keys.pace("main/m"), f"c:~|{second.run_id}|a")
    assert int(expected) >= 10_500
    second.cancel()


@pytest.mark.parametrize("configured", [None, 1000.0])
def test_limits_that_a_provider_states_hold_where_none_is_configured(asking: Asking, configured: float | None) -> None:
    # 2 in a minute, and none are left, but for how long the provider does not say.
    headers = {"x-ratelimit-limit-requests": "2", "x-ratelimit-remaining-requests": "0"}
    answer = Answer(body=reply("ok").body, headers=headers)
    env, server = asking(answer, limit=CallLimit(requests=configured))
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    eventually(lambda: env.link.redis.hget(env.keys.pace("main/m"), "learned"))
    second = env.client.start("ask")
    if configured is None:
        eventually(lambda: is_parked(second))
        assert len(server.requests) == 1
        env.clock.advance("31s", keep_leases=True)
    assert second.result(timeout=PATIENCE) == {"a": "ok"}
    assert len(server.requests) == 2


@pytest.mark.parametrize("durable", [False, True])
def test_models_by_name_have_the_limits_and_retries_of_their_provider(
    environment: Make, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from flowcraft_server.agents.durable_agent import DurableAgent

    @handler(parks=True)
    async def own(ctx: AsyncNodeContext) -> str:
        agent = DurableAgent(pydantic_ai.Agent("openai-chat:named"), name="own")
        return str((await agent.run(ctx, "?")).output)

    uses = "{uses: own}" if durable else "{uses: agent, inputs: {q: q}, params: {model: 'openai-chat:named'}}"
    provider = "openai"
    with chat_server(refusal(503, "busy", x_should_retry="false"), reply("ok")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        retries = RetryPolicy(max_attempts=2, on=("5xx",), initial=0.01, max_delay=0.02)
        endpoint = Endpoint("http://localhost:9/v1", "key", "m", 20.0, 50, retries, limit=HOURLY)
        models = LanguageModels({provider: OpenAICompatible(provider, endpoint)})
        blueprint = {"ask": f"inputs: {{q: string}}\nnodes: {{a: {uses}}}"}
        env = environment(blueprints=blueprint, handlers={"own": own}, models=models)
        first = env.client.start("ask", {"q": "?"})
        eventually(lambda: is_parked(first))  # the call was refused, and may be repeated in an hour
        assert len(server.requests) == 1
        env.clock.advance("61m", keep_leases=True)
        assert first.result(timeout=PATIENCE)["a"] == "ok"
        second = env.client.start("ask", {"q": "?"})
        eventually(lambda: is_parked(second))
        assert node_of(second).blocked_by == "the limits of model 'openai/named'"
        assert len(server.requests) == 2
        second.cancel()


def test_unparking_is_repeatable_and_knows_what_is_not_parked(asking: Asking) -> None:
    env, _server = asking(limit=HOURLY, workers=1)
    assert env.client.execute("ask", timeout=PATIENCE) == {"a": "ok"}
    handle = env.client.start("ask", run_id="parked")
    eventually(lambda: is_parked(handle))
    for worker in list(env.workers):
        env.kill_worker(worker)
    keys = env.partitions.for_run("parked")
    for run_id, instance_id, code in (
        ("parked", "a", b"ok"),
        ("parked", "a", b"ready"),
        ("parked", "b", b"gone"),
        ("none", "a", b"gone"),
    ):
        assert env.link.call(scripts.unpark(keys, run_id=run_id, instance_id=instance_id)) == [code]
    assert node_of(handle).status is NodeStatus.READY
    handle.cancel()
