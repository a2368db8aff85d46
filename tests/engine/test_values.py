"""What a handler may hand over, and what becomes of it if it cannot be stored: the node fails, the worker goes on."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from loguru import logger
from pydantic import BaseModel

from flowcraft_sdk import NodeContext, NonRetryableError, RunFailedError
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]
GRAPH = {
    "id": "g",
    "nodes": [{"id": "a", "uses": "give", "inputs": "x"}, {"id": "b", "uses": "echo"}],
    "edges": [{"source": "a", "target": "b"}],
}


SECRET = "s3cret-key"


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    amount: Decimal


class Odd(dict):  # type: ignore[type-arg]
    """A mapping that fails when it is looked into."""

    def items(self) -> Any:
        raise RuntimeError("not to be looked into")


class OddModel(BaseModel):
    def model_dump(self, **options: Any) -> Any:
        raise KeyError("no")


def loop() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> Any:
    found: Any = 1
    for _ in range(100_000):
        found = [found]
    return found


@pytest.fixture
def give(environment: Make) -> Callable[..., Any]:
    """Runs the graph with a first node that does something; returns what the second one got."""

    def run(do: Callable[[NodeContext], Any], **settings: Any) -> Any:
        env = environment(
            handlers={"give": do, "echo": lambda ctx: ctx.input}, blueprints=GRAPH, settings=WorkerSettings(**settings)
        )
        try:
            return env.client.execute("g", {"x": 1}, timeout=60)["b"]
        finally:
            env.handlers["give"] = env.handlers["echo"]
            assert env.client.execute("g", {"x": 5}, timeout=60)["b"] == 5, "the worker goes on"

    return run


KEPT = [
    {"n": None, "f": 1.5, "big": 2**70, "list": [1, [2]], "": "", "text": "\u2028 \x00 \U0001f600"},
    [Decimal("1.10"), b"\x00\xff", UUID(int=7), datetime(2024, 5, 1, tzinfo=UTC), date(2024, 5, 1), time(1, 2), timedelta(1, 2, 3)],
    {"$decimal": "is a key of mine"},
    {"$object": [["a", 1]]},
    [],
    {},
]  # fmt: skip


@pytest.mark.parametrize("value", KEPT, ids=str)
def test_values_come_as_they_went(give: Callable[..., Any], value: Any) -> None:
    found = give(lambda ctx: value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Model(amount=Decimal("1.10")), {"amount": Decimal("1.10")}),
        ({3, 1}, [1, 3]),
    ],
    ids=str,
)
def test_values_that_become_plain(give: Callable[..., Any], value: Any, found: Any) -> None:
    assert give(lambda ctx: value) == found


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("nan", lambda: {"a": [1, math.nan]}, r"output of node 'a'\.a\[1\]: nan has no JSON form"),
    ("infinite", lambda: -math.inf, r"output of node 'a': -inf has no JSON form"),
    ("key", lambda: {"a": {1: 2}}, r"output of node 'a'\.a: the key 1 is no text"),
    ("class", lambda: [object()], r"output of node 'a'\[0\]: builtins\.object has no JSON form"),
    ("generator", lambda: (n for n in range(3)), r"output of node 'a': builtins\.generator has no JSON form"),
    ("itself", loop, r"output of node 'a'.*: (contains itself|nested deeper)"),
    ("deep", deep, r"output of node 'a'.*: nested deeper than 254 levels"),
    ("naive", lambda: datetime(2024, 5, 1), r"output of node 'a': a datetime without a time zone"),
    ("surrogate", lambda: {"t": "\ud800"}, r"output of node 'a'\.t: text with a lone surrogate"),
    ("digits", lambda: 10**5000, r"output of node 'a': a number of more than 4300 digits"),
    ("function", lambda: len, r"output of node 'a': builtins\.builtin_function_or_method has no JSON form"),
    ("odd", lambda: Odd(a=1), "not to be looked into"),
    ("odd model", lambda: OddModel(), "no"),
]


@pytest.mark.parametrize(("make", "published"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
class TestRefused:
    def test_as_output(self, give: Callable[..., Any], make: Callable[[], Any], published: str) -> None:
        with pytest.raises(RunFailedError, match=rf"node 'a': .*{published}") as raised:
            give(lambda ctx: make())
        assert len(str(raised.value)) < 5000

    def test_as_a_context_value(self, give: Callable[..., Any], make: Callable[[], Any], published: str) -> None:
        here = published.replace("output of node 'a'", "context\\.k")
        with pytest.raises(RunFailedError, match=rf"node 'a': .*{here}"):
            give(lambda ctx: ctx.context.set("k", make()))

    def test_as_an_event(self, give: Callable[..., Any], make: Callable[[], Any], published: str) -> None:
        with pytest.raises(RunFailedError, match="node 'a'"):
            give(lambda ctx: ctx.emit("reported", make()))

    def test_as_details_of_a_failure(self, give: Callable[..., Any], make: Callable[[], Any], published: str) -> None:
        def fail(ctx: NodeContext) -> None:
            raise NonRetryableError("as asked", details=make())

        with pytest.raises(RunFailedError, match=r"node 'a': .*as asked") as raised:
            give(fail)
        assert "not stored" in str(raised.value.failure.details)


class TestSizes:
    def test_an_output(self, give: Callable[..., Any]) -> None:
        with pytest.raises(
            RunFailedError, match=r"node 'a': .*: output of node 'a': 3002 bytes .* limit of 2000 \(limits.maxValue\)"
        ):
            give(lambda ctx: "x" * 3000, max_value=2000)

    def test_a_context_value(self, give: Callable[..., Any]) -> None:
        with pytest.raises(
            RunFailedError, match=r"node 'a': .*: context.k: 3002 bytes .* limit of 2000 \(limits.maxValue\)"
        ):
            give(lambda ctx: ctx.context.set("k", "x" * 3000), max_value=2000)

    def test_large_details_are_left_out(self, give: Callable[..., Any]) -> None:
        def fail(ctx: NodeContext) -> None:
            raise NonRetryableError("as asked", details="x" * 100_000)

        with pytest.raises(RunFailedError) as raised:
            give(fail)
        assert "not stored: details: 100002 bytes" in raised.value.failure.details

    def test_what_is_large_is_published_once(self, environment: Make, lines: list[str]) -> None:
        def do(ctx: NodeContext) -> str:
            ctx.context.set("k", "y" * 2500)
            return "x" * 3000

        settings = WorkerSettings(inline_value=2000)
        env = environment(handlers={"give": do, "echo": lambda ctx: 1}, blueprints=GRAPH, settings=settings)
        for _ in range(3):
            env.client.execute("g", {"x": 1}, timeout=60)
        assert [line for line in lines if "inlineValue" in line] == [
            "output of node 'a' takes 3002 bytes, over limits.inlineValue of 2000: keep large values elsewhere and pass on where",
            "context.k of node 'a' takes 2502 bytes, over limits.inlineValue of 2000: keep large values elsewhere and pass on where",
        ]


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(message.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)


def test_secrets_are_masked_in_what_is_recorded_of_a_failure(environment: Make, lines: list[str]) -> None:
    def fail(ctx: NodeContext) -> None:
        raise NonRetryableError("key " + SECRET + " refused", details={"header": [SECRET]})

    settings = WorkerSettings(secrets=frozenset({SECRET}))
    env = environment(handlers={"give": fail}, blueprints=GRAPH, settings=settings)
    run = env.client.start("g", {"x": 1})
    with pytest.raises(RunFailedError, match=r"key \*+ refused"):
        run.result(10)
    stored = env.link.redis.hgetall(env.keys.run(run.run_id)), env.link.redis.lrange(env.keys.events(run.run_id), 0, -1)
    assert "s3cret" not in str(stored)
    assert not [line for line in lines if "s3cret" in line]
