"""The cache of model replies: what is answered from it, what is never kept in it, and how it is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_sdk import AsyncNodeContext, Handle, NodeContext, StreamText
from flowcraft_sdk.protocol import scripts
from flowcraft_server.cli.client import main
from flowcraft_server.llm.calls import ModelReply, ModelRequest, TokenUsage
from flowcraft_server.llm.errors import LLMRequestError
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Environments = Callable[..., TestEnvironment]


class Numbered(Provider):
    """Answers with the number of the call, so that it shows which call a reply is of."""

    scripted = True

    def __init__(self, name: str = "numbered", age: float | None = 3600.0) -> None:
        super().__init__(name, "m")
        self.cache_age = age
        self.asked: list[ModelRequest] = []
        self.finish_reason = "stop"
        self.text = "reply {}"
        self.error: Exception | None = None

    def call(self, request: ModelRequest, *, deadline: float | None = None) -> ModelReply:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        text = self.text.format(len(self.asked))
        return ModelReply(text, "m", TokenUsage(10, 0, 5), self.finish_reason, 7, "request-1")

    async def acall(self, request: ModelRequest) -> ModelReply:
        return self.call(request)


def ask(ctx: NodeContext) -> str:
    return ctx.llm.complete(ctx.input, **ctx.params)


async def ask_async(ctx: AsyncNodeContext) -> str:
    return await ctx.llm.complete(ctx.input, **ctx.params)


HANDLERS = {"ask": ask, "ask_async": ask_async}


def blueprint(uses: str = "ask", params: str = "{}", more: str = "") -> str:
    return f"inputs: {{text: string}}\noutputs: {{reply: a}}\nnodes: {{a: {{uses: {uses}, inputs: text, params: {params}{more}}}}}"


def streamed(handle: Handle[Any]) -> str:
    return "".join(item.text for item in handle.stream("a", timeout=120) if isinstance(item, StreamText))


def asking(env: TestEnvironment, text: str = "hello", blueprint_id: str = "a") -> Any:
    return env.client.execute(blueprint_id, {"text": text}, timeout=120)["reply"]


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("uses", ["ask", "ask_async"])
def test_the_same_request_is_answered_once(environment: Environments, uses: str, partitions: int) -> None:
    model = Numbered()
    env = environment(
        blueprints={"a": blueprint(uses)}, handlers=HANDLERS, models=LanguageModels({"m": model}), partitions=partitions
    )
    texts = [f"question {number}" for number in range(6)]
    first = [asking(env, text) for text in texts]
    assert [asking(env, text) for text in texts] == first
    assert len(model.asked) == len(texts)


def test_a_hit_is_counted_as_one_and_costs_nothing(environment: Environments) -> None:
    model = Numbered()
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    assert asking(env) == "reply 1"
    handle = env.client.start("a", {"text": "hello"}, budget={"tokens": 1})
    assert handle.result(timeout=120) == {"reply": "reply 1"}
    snapshot = handle.describe()
    usage = snapshot.usage
    assert usage is not None
    assert (usage.cache_hits, usage.calls, usage.tokens, usage.usd, usage.unpriced_calls) == (1, 0, 0, 0.0, 0)
    assert usage.text == "0 calls, 0 tokens, $0.00, 1 more from the cache"
    assert snapshot.nodes["a"].usage == usage
    event = next(each for each in handle.events() if each.type == "step_recorded")
    details = event.data["details"]
    assert (details["fromCache"], details["usd"], details["reply"]) == (True, 0, "reply 1")
    day = next(row for row in env.client.usage(days=1) if row.kind == "all")
    assert (day.usage.calls, day.usage.cache_hits) == (1, 1)
    command = ["--url", env.url, "--namespace", env.namespace, "usage"]
    head, row = (line.split("  ") for line in CliRunner().invoke(main, command).output.splitlines())
    assert [cell.strip() for cell in head if cell][1:3] == ["calls", "from cache"]
    assert [cell.strip() for cell in row if cell][1:3] == ["1", "1"]


def test_what_differs_is_asked(environment: Environments) -> None:
    model = Numbered()
    variants = {
        "plain": "{}", "system": "{system: short}", "warm": "{temperature: 0.5}", "cold": "{temperature: 0}",
        "long": "{max_tokens: 9}", "model": "{model: other}", "schema": "{schema: {type: object}}",
    }  # fmt: skip
    env = environment(
        blueprints={name: blueprint("ask", params) for name, params in variants.items()}, handlers=HANDLERS,
        models=LanguageModels({"m": model}),
    )  # fmt: skip
    replies = [asking(env, "hello", name) for name in variants]
    assert replies == [f"reply {number}" for number in range(1, len(variants) + 1)]
    assert [asking(env, "hello", name) for name in variants] == replies


def test_a_reply_is_given_until_it_is_too_old(environment: Environments) -> None:
    model = Numbered(age=3600.0)
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    assert asking(env) == "reply 1"
    env.clock.advance("59m")
    assert asking(env) == "reply 1"
    env.clock.advance("2m")
    assert asking(env) == "reply 2"
    assert asking(env) == "reply 2"


def test_without_an_age_nothing_is_kept(environment: Environments) -> None:
    model = Numbered(age=None)
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    assert [asking(env), asking(env)] == ["reply 1", "reply 2"]
    assert not [key for key in env.link.redis.scan_iter(match=f"*{env.namespace}*") if b"repl" in key]


@pytest.mark.parametrize("reason", ["length", "content_filter", "error", ""])
def test_a_reply_that_is_not_whole_is_not_kept(environment: Environments, reason: str) -> None:
    model = Numbered()
    model.finish_reason = reason
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    assert [asking(env), asking(env)] == ["reply 1", "reply 2"]


def test_a_reply_with_a_secret_in_it_is_not_kept(environment: Environments) -> None:
    model = Numbered()
    model.text = "the key is hunter2-hunter2, {}"
    env = environment(
        blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}),
        settings=WorkerSettings(secrets=frozenset({"hunter2-hunter2"})),
    )  # fmt: skip
    assert asking(env) != asking(env)
    dump = b"".join(
        env.link.redis.dump(key) or b"" for key in env.link.redis.scan_iter(match=f"*{env.namespace}*}}:repl*")
    )
    assert dump == b""


def test_a_failed_call_leaves_nothing(environment: Environments) -> None:
    model = Numbered()
    model.error = LLMRequestError("no", provider="m")
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    assert env.client.start("a", {"text": "hello"}).wait(120).status == "failed"
    model.error = None
    assert asking(env) == "reply 2"


def test_a_reply_that_the_handler_fails_on_is_neither_given_again_nor_kept(environment: Environments) -> None:
    model = Numbered()
    refused = {"reply 1", "reply 2"}

    def picky(ctx: NodeContext) -> str:
        reply = ctx.llm.complete(ctx.input)
        if reply in refused:
            raise ValueError(reply)
        return reply

    env = environment(
        blueprints={"a": blueprint("picky", more=", config: {maxRetries: 2}")}, handlers={"picky": picky},
        models=LanguageModels({"m": model}),
    )  # fmt: skip
    assert env.client.start("a", {"text": "hello"}).wait(120).status == "failed"
    assert len(model.asked) == 2  # the second attempt has asked anew
    assert asking(env) == "reply 3"  # and a further run, too
    assert asking(env) == "reply 3"


@pytest.mark.parametrize("is_async", [True, False])
def test_a_stream_is_answered_and_shown_from_the_cache(environment: Environments, is_async: bool) -> None:
    model = Numbered()

    async def stream_async(ctx: AsyncNodeContext) -> list[str]:
        return [piece async for piece in ctx.llm.stream(ctx.input)]

    def stream(ctx: NodeContext) -> list[str]:
        return list(ctx.llm.stream(ctx.input))

    env = environment(
        blueprints={"a": blueprint("stream")}, handlers={"stream": stream_async if is_async else stream},
        models=LanguageModels({"m": model}),
    )  # fmt: skip
    for _ in range(2):
        handle = env.client.start("a", {"text": "hello"})
        assert handle.result(timeout=120) == {"reply": ["reply 1"]}
        assert streamed(handle) == "reply 1"
    assert len(model.asked) == 1


def test_an_agent_is_answered_from_the_cache(environment: Environments) -> None:
    pytest.importorskip("pydantic_ai")
    model = Numbered()
    env = environment(
        blueprints={"a": blueprint("agent", "{instructions: Be short., stream: true}")},
        models=LanguageModels({"m": model}),
    )
    assert asking(env) == "reply 1"
    handle = env.client.start("a", {"text": "hello"})
    assert handle.result(timeout=120) == {"reply": "reply 1"}
    assert streamed(handle) == "reply 1"
    usage = handle.describe().usage
    assert usage is not None
    assert (usage.cache_hits, usage.calls) == (1, 0)
    event = next(each for each in handle.events() if each.type == "step_recorded")
    assert (event.data["details"]["fromCache"], event.data["details"]["reply"]) == (True, "reply 1")
    assert len(model.asked) == 1
    env.publish({"b": blueprint("agent", "{instructions: Be long.}")})
    assert asking(env, "hello", "b") == "reply 2"


def test_a_key_of_another_type_costs_the_cache_alone(environment: Environments) -> None:
    model = Numbered()
    env = environment(blueprints={"a": blueprint()}, handlers=HANDLERS, models=LanguageModels({"m": model}))
    env.link.redis.set(env.keys.replies, "no sorted set", ex=3600)
    assert [asking(env), asking(env)] == ["reply 1", "reply 2"]


def test_the_scripts_may_be_sent_twice_and_keep_to_their_bound(environment: Environments) -> None:
    env = environment(workers=0)
    redis, keys = env.link.redis, env.keys

    def keep(digest: str, reply: str, age_ms: int = 60_000, most_bytes: int = 2_000) -> int:
        call = scripts.keep_reply(keys, digest=digest, reply=reply, age_ms=age_ms, most_bytes=most_bytes)
        first = env.link.call(call)
        assert env.link.call(call) == first
        return int(first)

    def find(digest: str, age_ms: int = 60_000) -> Any:
        return env.link.call(scripts.find_reply(keys, digest=digest, age_ms=age_ms))

    def sizes() -> dict[str, int]:
        return {name.decode(): int(value) for name, value in redis.hgetall(keys.reply_sizes).items()}

    assert find("a1") is None
    assert keep("a1", "x" * 500, 50_000) == 1
    assert keep("a2", "y" * 300) == 1
    assert find("a2") == b"y" * 300
    assert sizes() == {"a1": 700, "a2": 500, "*": 1200}
    assert keep("a3", "z" * 900) == 1  # the one that expires first makes room
    assert (find("a1"), find("a2"), find("a3")) == (None, b"y" * 300, b"z" * 900)
    assert sizes() == {"a2": 500, "a3": 1100, "*": 1600}
    assert keep("a3", "short") == 1
    assert sizes() == {"a2": 500, "a3": 205, "*": 705}
    assert keep("a4", "w" * 1801) == 0  # larger than all may be
    assert find("a4") is None
    assert keep("a2", "") == 0
    assert find("a2") is None
    assert sizes() == {"a3": 205, "*": 205}
    env.clock.advance("2m")
    assert find("a3") is None
    assert keep("a5", "v") == 1
    assert sizes() == {"a5": 201, "*": 201}
    assert redis.zrange(keys.replies, 0, -1) == [b"a5"]
    for name in (keys.reply("a5"), keys.replies, keys.reply_sizes):
        assert 0 < redis.pttl(name) <= 60_000


def test_the_configuration_says_what_is_kept(tmp_path: Path) -> None:
    from flowcraft_server.config.load import load_settings
    from flowcraft_server.llm.models import build_models

    def load(text: str) -> Any:
        (tmp_path / "r.yaml").write_text("default: hello\n")
        (tmp_path / "flowcraft.yaml").write_text(f"handlers: {{}}\nllm:\n{text}")
        return load_settings(tmp_path / "flowcraft.yaml")

    providers = (
        "  providers:\n    a: {type: scripted, file: r.yaml}\n    b: {type: scripted, file: r.yaml, cache: 5m}\n"
    )
    providers += "    c: {type: openai-compatible, model: m, cache: off}\n"
    for text, expected, most in (
        ("", [None, 300.0, None], 64 * 2**20),
        ("  cache: 1h\n", [3600.0, 300.0, None], 64 * 2**20),
        ("  cache: {maxAge: 2h, maxBytes: 1MiB}\n", [7200.0, 300.0, None], 2**20),
    ):
        loaded = load(text + providers)
        assert loaded.settings is not None, loaded.diagnostics
        models = build_models(loaded.settings.llm, base=tmp_path)
        assert [provider.cache_age for provider in models.providers] == expected
        assert models.cache_bytes == most
        assert models.keeps_replies
        models.keep_no_replies()
        assert not models.keeps_replies
    wrong = [str(found) for found in load("  cache: {maxAg: 1h, maxBytes: 3}\n").errors]
    assert len(wrong) == 2
    assert "llm.cache.maxAg: unknown key; did you mean 'maxAge'?" in wrong[0]
    assert "llm.cache.maxBytes: " in wrong[1]
    (wrong_age,) = load("  providers: {a: {type: scripted, file: r.yaml, cache: often}}\n").errors
    assert "llm.providers.a.cache: " in str(wrong_age)
