"""What model calls have used is counted by node, run, blueprint, tag and day; budgets end what would go beyond them."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_sdk import AsyncNodeContext, Budget, BudgetExceededError, NodeContext, RunFailedError, RunStatus, Usage
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.usage_sums import budget_of, read_budget, read_day, write_budget
from flowcraft_server.cli.client import main
from flowcraft_server.config.llm_section import PriceSection
from flowcraft_server.llm import LanguageModels, ModelReply, ModelRequest, Provider, TokenUsage
from flowcraft_server.llm.prices import Prices
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import LineCapture, WorkerSettings

BLUEPRINTS = {
    "ask": "nodes: {a: {uses: ask}}",
    "twice": "nodes: {a: {uses: ask_async}, b: {uses: ask, needs: a}}",
    "node": "nodes: {a: {uses: ask, params: {times: 5}, config: {budget: {tokens: 250}}}}",
    "whole": "{budget: {usd: 0.0003}, nodes: {a: {uses: ask_async, params: {times: 5}}}}",
    "parent": "nodes: {a: {call: twice, config: {budget: {tokens: 1k}}}}",
    "strict": "nodes: {a: {call: twice, config: {budget: {tokens: 100}}}}",
    "abandons": "{budget: {tokens: 250}, nodes: {a: {call: later, config: {onParentCancel: abandon}}}}",
    "later": "nodes: {w: {uses: wait}, a: {uses: ask, needs: w, params: {times: 5}}}",
    "each": "nodes: {a: {uses: map, inputs: list, params: {uses: ask}}}",
    "gathered": "nodes: {a: {uses: gathered}}",
    "unpriced": "nodes: {a: {uses: ask, params: {model: other}}}",
}


class Counted(Provider):
    """Each call has 100 tokens of input, 20 of them cached, and 10 of output."""

    def __init__(self) -> None:
        super().__init__("counted", "m")

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        return ModelReply("yes", "m", TokenUsage(100, 20, 10), latency_ms=1500)

    async def acall(self, request: ModelRequest) -> ModelReply:
        return self.call(request)


def ask(ctx: NodeContext) -> str:
    for _ in range(ctx.params.get("times", 1)):
        ctx.llm.complete("question", model=ctx.params.get("model"))
    return "done"


async def ask_async(ctx: AsyncNodeContext) -> str:
    for _ in range(ctx.params.get("times", 1)):
        await ctx.llm.complete("question")
    return "done"


async def gathered(ctx: AsyncNodeContext) -> list[str]:
    return await asyncio.gather(*(ctx.llm.complete("question") for _ in range(20)))


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    prices = Prices({"m": PriceSection(input=1, cached=0.5, output=2)})
    settings = WorkerSettings(tag_budgets={"acme": Budget(tokens=300), "rich": Budget(usd=1)})
    made = TestEnvironment(
        blueprints=BLUEPRINTS,
        handlers={"ask": ask, "ask_async": ask_async, "gathered": gathered},
        models=LanguageModels({"counted": Counted()}, prices=prices),
        settings=settings,
        workers=2,
    )
    with made as env:
        yield env


ONE = Usage(calls=1, input_tokens=100, cached_tokens=20, output_tokens=10, usd=0.00011, seconds=1.5)


def times(count: int) -> Usage:
    return Usage(**{name: value * count for name, value in ONE.model_dump().items()})


def day_sums(env: TestEnvironment) -> dict[str, Usage]:
    """The sums of all days: a test may run at midnight."""
    sums: dict[str, list[str]] = {}
    for key in env.link.redis.scan_iter(match=f"*{env.namespace}*usage:[0-9]*"):
        for name, text in env.link.redis.hgetall(key).items():
            sums.setdefault(name.decode(), []).append(text.decode())
    return {f"{row.kind} {row.name}".strip(): row.usage for row in read_day(0, sums)}


def failure(run: Any) -> Any:
    with pytest.raises(RunFailedError) as caught:
        run.result(timeout=20)
    return caught.value.failure


def test_usage_is_in_nodes_runs_lists_and_days(env: TestEnvironment) -> None:
    run = env.client.start("twice", tags=["t1", "t2"])
    assert run.result(timeout=60) == {"a": "done", "b": "done"}
    snapshot = run.describe()
    assert snapshot.usage == times(2)
    assert {name: node.usage for name, node in snapshot.nodes.items()} == {"a": ONE, "b": ONE}
    (listed,) = [each for each in env.client.list_runs(blueprint_id="twice") if each.run_id == run.run_id]
    assert listed.usage == times(2)
    printed = [
        CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *args]).output
        for args in (["list"], ["show", run.run_id])
    ]
    assert "cost" in printed[0]
    assert all("$0.0002" in output for output in printed)
    assert "2 calls, 220 tokens" in printed[1]
    sums = day_sums(env)
    assert sums["tag t1"] == sums["tag t2"] == times(2)
    assert sums["blueprint twice"].calls >= 2
    assert sums["model m"].calls == sums["all"].calls >= 2


def test_calls_of_subflows_count_for_the_runs_above_and_their_nodes(env: TestEnvironment) -> None:
    run = env.client.start("parent", tags=["above"])
    run.result(timeout=60)
    snapshot = run.describe()
    assert snapshot.usage == snapshot.nodes["a"].usage == times(2)
    assert day_sums(env)["tag above"] == times(2)
    assert "the budget of node 'a' of run" in failure(env.client.start("strict")).message


def test_items_of_a_batch_count_for_their_node_and_calls_at_once_are_all_counted(env: TestEnvironment) -> None:
    run = env.client.start("each", {"list": list(range(5))})
    run.result(timeout=60)
    assert run.describe().nodes["a"].usage == run.describe().usage == times(5)
    many = env.client.start("gathered")
    many.result(timeout=60)
    assert many.describe().usage == times(20)


@pytest.mark.parametrize(
    ("blueprint", "options", "calls", "message"),
    [
        ("node", {}, 3, "node 'a' of run {id} is used up: 330 of 250 tokens by 3 model calls"),
        ("whole", {}, 3, "a run of its blueprint ({id}) is used up: $0.0003 of $0.0003 by 3 model calls"),
        ("twice", {"budget": {"tokens": 110}}, 1, "run {id} is used up: 110 of 110 tokens by 1 model call"),
        ("twice", {"budget": Budget(usd=0.0001, tokens=1)}, 1, "run {id} is used up: $0.0001 of $0.0001 and 110 of 1"),
    ],
)
def test_a_budget_ends_the_run_and_names_the_sums(
    env: TestEnvironment, blueprint: str, options: dict[str, Any], calls: int, message: str
) -> None:
    run = env.client.start(blueprint, **options)
    found = failure(run)
    assert found.type == BudgetExceededError.__name__
    assert message.format(id=run.run_id) in found.message
    assert found.details["used"]["calls"] == calls
    assert run.describe().usage == times(calls)
    again = run.rerun() if hasattr(run, "rerun") else None
    if again is not None and options:
        assert "is used up" in failure(again).message  # the same budget, and nothing used yet


def test_a_child_that_goes_on_counts_for_the_tags_above_it_and_no_more_for_its_parent() -> None:
    settings = WorkerSettings(tag_budgets={"acme": Budget(tokens=300)})
    models = LanguageModels({"counted": Counted()})
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"ask": ask, "ask_async": ask_async, "gathered": gathered}, models=models, settings=settings) as env:  # fmt: skip
        for tag, count in (("free", 5), ("acme", 3)):
            run = env.client.start("abandons", tags=[tag])
            run.wait_for(RunStatus.WAITING, timeout=20)
            child = env.client.get_handle(run.describe().children[0])
            run.cancel(grace=0)
            child.signal("w", 1)
            ended = child.wait(timeout=20)
            assert ended.usage is not None and ended.usage.calls == count
            assert run.describe().usage is None
            assert day_sums(env)[f"tag {tag}"].calls == count
        assert "the budget of tag 'acme'" in ended.failures[0].message


def test_the_budget_of_a_tag_is_for_all_its_runs_of_a_day(env: TestEnvironment) -> None:
    for _ in range(3):
        env.client.start("ask", tags=["acme"]).result(timeout=60)
    assert "the budget of tag 'acme' on 20" in failure(env.client.start("parent", tags=["acme"])).message
    env.clock.advance("1d")
    env.client.start("ask", tags=["acme"]).result(timeout=60)


def test_a_budget_in_usd_needs_a_price(env: TestEnvironment) -> None:
    env.client.start("unpriced").result(timeout=60)
    for options in ({"budget": {"usd": 1}}, {"tags": ["rich"]}):
        found = failure(env.client.start("unpriced", **options))
        assert found.type.endswith("LLMSettingsError")
        assert found.message.endswith("set llm.prices")  # the prices of public models are installed here
    assert env.client.start("unpriced", budget={"tokens": 9}).result(timeout=60) == {"a": "done"}


def test_budgets_as_people_write_them(env: TestEnvironment) -> None:
    assert budget_of({"usd": 0.5, "tokens": "1.5m"}) == Budget(usd=0.5, tokens=1_500_000)
    assert read_budget(write_budget(Budget(tokens=7))) == Budget(tokens=7)
    for wrong in (
        {},
        {"eur": 1},
        {"usd": -1},
        {"tokens": "many"},
        {"tokens": 0},
        5,
        {"usd": True},
        {"usd": float("nan")},
    ):
        with pytest.raises(ConfigurationError, match="budget"):
            env.client.start("ask", budget=wrong)  # type: ignore[arg-type]


def test_a_call_is_counted_once_and_never_for_an_ended_run(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(blueprints={"x": "nodes: {a: {uses: x}}"}, workers=0)
    handle = env.client.start("x")
    keys = env.partitions.for_run(handle.run_id)
    created = int(env.link.redis.hget(keys.run(handle.run_id), "cr"))

    def count(call_id: str, created_ms: int = created) -> Any:
        return env.link.call(
            scripts.record_usage(
                keys, run_id=handle.run_id, node_id="a", created_ms=created_ms, call_id=call_id, model="m",
                input_tokens=10, cached_tokens=0, output_tokens=1, nano_usd=None, ms=5,
            )
        )  # fmt: skip

    assert [count("aaaaaaaa"), count("bbbbbbbb"), count("aaaaaaaa")] == [1, 1, 0]
    assert count("cccccccc", created - 1) == 0  # of another run that had the id
    usage = handle.describe().usage
    assert usage is not None
    assert (usage.calls, usage.unpriced_calls) == (2, 2)
    day, flags, tags = env.link.call(scripts.check_budget(keys, run_id=handle.run_id, node_id="a"))
    assert (flags, tags) == (b"", b"")
    used_up = env.link.call(scripts.check_budget(keys, run_id=handle.run_id, node_id="a", budget="|22"))[3:]
    assert used_up == [[b"node", f"{handle.run_id}/a".encode(), b"|22", b"2|20|0|2|0|2|10"]]
    assert env.link.redis.ttl(keys.usage(int(day))) > 86_400
    for number in range(400):
        count(f"{number:08d}")
    assert len(env.link.redis.hget(keys.run(handle.run_id), "uc")) == 2048
    handle.cancel()
    assert count("dddddddd") == 0


@pytest.mark.parametrize("record", ["full", "redacted", "off"])
def test_the_history_keeps_of_prompts_and_replies_what_it_is_told(
    environment: Callable[..., TestEnvironment], record: Any
) -> None:
    def tell(ctx: NodeContext) -> str:
        return ctx.llm.complete("password: hunter2, customer=Ada; pin is 4" + "x" * 5000)

    env = environment(
        blueprints={"tell": "nodes: {a: {uses: tell}}"},
        handlers={"tell": tell},
        models=LanguageModels({"counted": Counted()}, record=record),
        settings=WorkerSettings(capture=LineCapture(names=("*customer*",))),
    )
    run = env.client.start("tell")
    run.result(timeout=60)
    (details,) = [event.data["details"] for event in run.events() if event.data.get("kind") == "model"]
    assert (details["model"], details["input"], details["ms"]) == ("m", 100, 1500)
    begins = {
        "full": "password: hunter2, customer=Ada; pin",
        "redacted": "password: ********, customer=********; pin",
    }.get(record)
    assert details.get("reply") == (None if record == "off" else "yes")
    assert str(details.get("prompt"))[: len(str(begins))] == str(begins)
    assert len(details.get("prompt", "")) < 2_100
