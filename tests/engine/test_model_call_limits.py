"""Limits of model calls over all processes: so many in a time, so many tokens, so many at once; what providers refuse is heeded by all."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, RunFailedError
from flowcraft_sdk.protocol import scripts
from flowcraft_server.config.llm_section import OpenAIProviderSection
from flowcraft_server.llm import Endpoint, LanguageModels, OpenAICompatible, RetryPolicy
from flowcraft_server.llm.call_gate import CallLimit, Passage
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.call_limits import CallLimits, _wanted_pause
from tests.acceptance.server_program import eventually
from tests.unit.llm.chat_server import Answer, chat_server, refusal, reply

Make = Callable[..., TestEnvironment]


class Process:
    """Calls the script as a process does."""

    def __init__(self, env: TestEnvironment, process: str, **limit: Any) -> None:
        self.env, self.process, self.limit, self.now = env, process, limit, 0

    def admit(self, **options: Any) -> list[str]:
        """Which of its calls are admitted."""
        options = {"name": "main/m", "process": self.process, "lease_ms": 10_000, **self.limit, **options}
        now, self.closed_ms, self.again, self.parked, _, wakes, waits, *admitted = self.env.link.call(
            scripts.admit_calls(self.env.partitions.home, **options)
        )
        self.wakes, self.waits = list(json.loads(wakes)), list(json.loads(waits))
        self.now, self.closed_ms = int(now), int(self.closed_ms)
        return sorted(each.decode() for each in admitted)


def calls(*names: str, run: str = "r", tokens: int = 10, node: str = "") -> list[tuple[str, str, int, str]]:
    return [(name, run, tokens, node) for name in names]


def test_places_are_shared_in_turn_and_come_back_when_a_process_is_gone(environment: Make) -> None:
    env = environment(blueprints={}, workers=0)
    one, two = Process(env, "one", concurrent=3), Process(env, "two", concurrent=3)
    assert one.admit(waiting=calls("a", "b", "c", "d", "e")) == ["a", "b", "c"]
    assert one.admit(waiting=calls("a", "b")) == ["a", "b", "c"]  # sent twice
    assert two.admit(waiting=calls("x", run="other")) == []
    assert one.admit(ended=[("a", 10, 12, 1, 5)], held=["b", "c"]) == ["b", "c", "d"]
    assert one.admit(ended=[("a", 10, 12, 1, 5)], held=["b", "c", "d"]) == ["b", "c", "d"]
    assert one.admit(ended=[("b", 10, 12, 1, 5)], held=["c", "d"]) == ["c", "d"]  # before e: its run had none
    assert two.admit(held=["x"]) == ["x"]
    env.clock.advance("11s")
    assert two.admit(waiting=calls("y", "z"), ended=[("x", 10, 10, 1, 5)]) == ["y", "z"]  # nothing was heard of one
    assert env.link.redis.zcard(env.partitions.home.calls("main/m")) == 0


def test_one_look_deals_with_a_bounded_number(environment: Make) -> None:
    env = environment(blueprints={}, workers=0)
    one, home = Process(env, "one"), env.partitions.home
    one.admit(waiting=calls("first"))
    one.admit(ended=[("first", 10, 0, 0, 5)], block_ms=60_000, admitted_at=one.now)
    one.admit(waiting=[(f"c{number}", f"r{number}", 10, f"r{number}|n") for number in range(300)])
    one.admit(parks=[(f"c{number}", f"r{number}|n", 10) for number in range(300)])
    env.link.redis.hset(home.pace("main/m"), mapping={"until": 0, "ramp": 0})
    one.admit()
    assert (len(one.wakes), int(one.again)) == (200, 1)
    one.admit()
    assert len(one.wakes) == 100
    env.clock.advance("6s")  # nobody has made them ready: each has its turn again, and none a place twice
    env.link.redis.hset(home.pace("main/m"), "until", one.now + 600_000)
    one.admit()
    assert env.link.redis.zcard(home.underway("main/m")) == 100
    one.admit()
    assert env.link.redis.zcard(home.underway("main/m")) == 0


def test_a_process_reports_a_bounded_number_at_once(environment: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(blueprints={}, workers=0)
    limits, sizes, admit = CallLimits(env.link, env.partitions, 30.0), list[tuple[int, int]](), scripts.admit_calls

    def counted(keys: Any, **options: Any) -> Any:
        sizes.append((len(options["waiting"]), len(options["ended"])))
        return admit(keys, **options)

    monkeypatch.setattr(scripts, "admit_calls", counted)

    async def ask() -> None:
        asked = [limits.ask("main/m", f"r{number}", CallLimit(), 10) for number in range(450)]
        for _ in range(4):
            limits.step()
        await asyncio.gather(*(call.admitted for call in asked))
        for call in asked:
            limits.leave("main/m", call, Passage())
        while limits.step() < 0.1:
            pass

    asyncio.run(ask())
    assert (sum(new for new, _ in sizes), sum(ended for _, ended in sizes)) == (450, 450)
    assert max(max(size) for size in sizes) == 200
    assert env.link.redis.zcard(env.partitions.home.underway("main/m")) == 0


def test_calls_and_tokens_in_a_time(environment: Make) -> None:
    env = environment(blueprints={}, workers=0)
    hourly = Process(env, "one", between_requests=3_600_000)
    assert hourly.admit(waiting=calls("a", "b")) == ["a"]
    env.clock.advance("61m")
    assert hourly.admit(ended=[("a", 10, 10, 1, 5)]) == ["b"]
    tokens = Process(env, "one", between_tokens=60_000, name="main/n")
    assert tokens.admit(name="main/n", waiting=calls("a", "b", tokens=60)) == ["a"]
    assert tokens.admit(name="main/n", ended=[("a", 60, 120, 1, 5)]) == []  # it has used more than was expected
    env.clock.advance("1h30m", keep_leases=True)
    assert tokens.admit(name="main/n") == []
    tokens.admit(name="main/n", waiting=calls("c", tokens=60))
    env.clock.advance("35m", keep_leases=True)
    tokens.admit(name="main/n", waiting=calls("d", tokens=60))
    assert env.link.redis.zcard(env.partitions.home.underway("main/n")) <= 1


def test_what_a_provider_refuses_holds_for_all_and_ends_slowly(environment: Make) -> None:
    env = environment(blueprints={}, workers=0)
    one, two = Process(env, "one"), Process(env, "two")
    assert one.admit(waiting=calls("a", "b")) == ["a", "b"]
    before = one.now
    one.admit(ended=[("a", 10, 0, 0, 5)], block_ms=30_000, admitted_at=before)
    assert two.admit(waiting=calls("x", "y", "z")) == []
    assert 0 < two.closed_ms <= 30_000
    one.admit(ended=[("b", 10, 0, 0, 5)], backs_off=True, admitted_at=before)  # refused at the same time: nothing new
    assert two.admit() == []
    env.clock.advance("30s")
    two.admit(waiting=[])
    assert two.admit(waiting=calls("v")) in (["v"], ["x"])  # one to try
    (tried,) = two.admit()
    assert len(two.admit(ended=[(tried, 10, 10, 1, 5)], waiting=calls("u", "w", "t"))) == 2  # then twice as many
    three = Process(env, "three", name="main/o")
    assert three.admit(waiting=calls("a")) == ["a"]
    three.admit(ended=[("a", 10, 0, 0, 5)], backs_off=True, admitted_at=three.now)
    assert 0 < three.closed_ms <= 1000


def ask_all(count: int) -> Callable[[AsyncNodeContext], Any]:
    async def ask(ctx: AsyncNodeContext) -> list[str]:
        replies = await asyncio.gather(*(ctx.llm.complete(f"{n}") for n in range(count)), return_exceptions=True)
        for each in replies:  # only now: no call is left behind
            if isinstance(each, BaseException):
                raise each
        return [str(each) for each in replies]

    return ask


def environment_of(
    make: Make, url: str, limit: CallLimit, count: int = 6, *, budget: int | None = None, **retries: Any
) -> TestEnvironment:
    policy = RetryPolicy(**{"initial": 0.01, "max_delay": 0.02, **retries})
    provider = OpenAICompatible("main", Endpoint(url, "key", "m", 20.0, 50, policy, limit=limit))
    blueprints = {"ask": "nodes: {a: {uses: ask}, b: {uses: ask}}"}
    if budget is not None:
        blueprints["ask"] = f"{{budget: {{tokens: {budget}}}, nodes: {{a: {{uses: ask}}}}}}"
    return make(
        blueprints=blueprints, handlers={"ask": ask_all(count)}, models=LanguageModels({"main": provider}), workers=2
    )


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_workers_make_no_more_calls_at_once_than_the_limit(environment: Make) -> None:
    with chat_server(reply("ok", hang=0.02)) as server:
        env = environment_of(environment, server.url, CallLimit(concurrent=2))
        assert env.client.start("ask").result(timeout=30) == {"a": ["ok"] * 6, "b": ["ok"] * 6}
    assert server.most_at_once == 2
    assert len(server.requests) == 12


def test_a_call_that_has_waited_for_its_place_is_not_made_once_the_budget_is_used_up(environment: Make) -> None:
    answer = reply("ok", hang=0.2)
    body = json.loads(answer.body) | {"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
    with chat_server(replace(answer, body=json.dumps(body))) as server:
        env = environment_of(environment, server.url, CallLimit(concurrent=1), budget=1)
        with pytest.raises(RunFailedError) as caught:
            env.client.start("ask").result(timeout=30)
    assert caught.value.failure.type == "BudgetExceededError"
    assert len(server.requests) <= 2, "of six: one more may be let through before the first one is counted"


@pytest.mark.parametrize("headers", [{"retry_after": "0.2"}, {}])
def test_refused_calls_are_made_again_when_the_provider_takes_them(environment: Make, headers: dict[str, str]) -> None:
    with chat_server(refusal(429, "too many", **headers), reply("ok")) as server:
        env = environment_of(environment, server.url, CallLimit(), count=3)
        env.client.start("ask").result(timeout=30)
    assert len(server.requests) == 7


def test_calls_fail_when_the_provider_wants_none_for_long(environment: Make) -> None:
    with chat_server(refusal(429, "quota", retry_after="3600")) as server:
        env = environment_of(environment, server.url, CallLimit(concurrent=1), count=2)
        for _ in range(2):
            with pytest.raises(RunFailedError, match="LLMRateLimited"):
                env.client.start("ask").result(timeout=30)
    assert len(server.requests) <= 2  # the others were not made


@pytest.mark.parametrize("asked", ["1e400", "1e300", "31536000"])
def test_a_provider_that_wants_no_calls_for_years_is_asked_again_after_a_day(environment: Make, asked: str) -> None:
    with chat_server(refusal(429, "quota", retry_after=asked), reply("ok")) as server:
        env = environment_of(environment, server.url, CallLimit(concurrent=1), count=1)
        with pytest.raises(RunFailedError, match="LLMRateLimited"):
            env.client.start("ask").result(timeout=30)
        pace = env.partitions.home.base + "pace:main/m"
        assert eventually(
            lambda: int(env.link.redis.hget(pace, "until") or 0) > 0
        )  # else it begins after the clock is moved
        env.clock.advance("25h")
        assert env.client.start("ask").result(timeout=30) == {"a": ["ok"], "b": ["ok"]}


def test_limits_are_read_from_the_file_and_from_answers() -> None:
    section = OpenAIProviderSection.model_validate(
        {
            "type": "openai-compatible",
            "model": "m",
            "limits": {"requests": "600/m", "tokens": "200k/m", "concurrent": 20},
        }
    )
    limits = section.limits
    assert (limits.requests, round(limits.tokens or 0), limits.concurrent) == (10.0, 3333, 20)
    none_left = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}
    assert _wanted_pause(Passage(headers=none_left)) == 90.0
    assert _wanted_pause(Passage(headers={**none_left, "x-ratelimit-remaining-tokens": "5"})) is None
    assert (
        _wanted_pause(Passage(headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "?"}))
        is None
    )
    assert _wanted_pause(Passage(headers=none_left, retry_after=2.0)) == 2.0


def test_an_answer_with_nothing_left_holds_calls_back(environment: Make) -> None:
    last = reply("ok")
    empty = Answer(body=last.body, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2h"})
    with chat_server(empty) as server:
        env = environment_of(environment, server.url, CallLimit(concurrent=1), count=2)
        with pytest.raises(RunFailedError, match="wants no calls"):
            env.client.start("ask").result(timeout=30)
    assert len(server.requests) == 1
