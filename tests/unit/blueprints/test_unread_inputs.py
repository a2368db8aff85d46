"""Inputs that nothing reads: they are reported where it is certain, and only there."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.config.context_reads import context_reads
from tests.unit.blueprints.registry import CALLED, HANDLERS, messages_of, read

QUIET = {
    **{name: HandlerSpec(params=spec.params, actions=spec.actions, reads=()) for name, spec in HANDLERS.items()},
    "open": HandlerSpec(),
    "reader": HandlerSpec(reads=("limit",)),
}
CALLER = {
    "caller": read(
        "id: caller\ninputs: {a: any}\noutputs: {x: one}\nnodes: {one: {call: main, inputs: {name: a}, outputs: {x: limit}}}"
    )
}


def found(
    nodes: str, inputs: str = "{name: string, limit: number}", outputs: str = "outputs: {x: a}", **options: Any
) -> list[str]:
    text = f"id: main\ninputs: {inputs}\n{outputs}\nnodes:\n" + "".join(f"  {line}\n" for line in nodes.splitlines())
    return messages_of(text, **{"handlers": QUIET, "blueprints": CALLED, **options})


def test_an_input_that_nothing_reads_is_reported() -> None:
    assert found("a: {uses: echo, inputs: name}") == ["inputs.limit: nothing reads the input 'limit'   [warning]"]
    assert found("a: {uses: sleep, inputs: name, params: {duration: 1s}}") == [
        "inputs.limit: nothing reads the input 'limit'   [warning]"
    ]
    assert found("a: {uses: agent, inputs: name, params: {instructions: Be kind.}}") == [
        "inputs.limit: nothing reads the input 'limit'   [warning]"
    ]


def test_a_misspelt_name_is_reported_once() -> None:
    nodes = "a: {uses: echo, inputs: {x: name, y: limit}}"
    assert found(nodes, inputs="{name: string, limt: number}") == [
        "nodes.a.inputs.y: nothing writes 'limit': it is no node and not among the blueprint's inputs; did you mean 'limt'?   [warning]"
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        "a: {uses: echo, inputs: {x: name, y: limit}}",
        "a: {uses: echo, inputs: {x: name.first, y: '= limit * 2'}}".replace("name.first", "name"),
        "a: {uses: echo, inputs: name, config: {timeout: '= limit * 1s'}}",
        "a: {uses: echo, inputs: name, params: {text: 'At most {{ limit }}, please'}}",
        "a: {uses: echo, inputs: name, params: {keys: [limit]}}",
        "a: {uses: open, inputs: name}",
        "a: {uses: echo, inputs: name, next: {x: b}}\nb: {uses: reader}",
        "a: {uses: map, inputs: name, params: {uses: open}}",
        "a: {uses: agent, inputs: name, params: {instructions: x, tools: [echo]}}\nb: {uses: agent, inputs: name, params: {instructions: x}}",
        "a: {call: child, inputs: {topic: name, tone: limit}}",
    ],
)
def test_an_input_that_something_may_read_is_not(nodes: str) -> None:
    assert not [message for message in found(nodes) if "nothing reads" in message]


def test_what_may_be_read_from_outside_is_not_reported() -> None:
    nodes = "a: {uses: echo, inputs: name}"
    assert found(nodes, outputs="outputs: {x: a, y: limit}") == []
    assert found(nodes, outputs="description: its result is the whole context") == []
    assert found(nodes, handlers=None) == []
    edge = "edges: [{source: a, target: b, condition: context.limit > 1}]"
    assert found(f"{nodes}\nb: {{uses: echo}}", outputs=f"outputs: {{x: a}}\n{edge}") == []
    assert found(nodes, blueprints=CALLER) == []


def plain(ctx: NodeContext) -> Any:
    return ctx.input, ctx.params["x"], ctx.step("x", len, "abc")


async def reads(ctx: AsyncNodeContext) -> Any:
    await ctx.context.set("written", 1)
    return await ctx.context.get("limit", 5) if await ctx.context.has("name") else None


def hands_on(ctx: NodeContext) -> Any:
    return plain(ctx)


def keeps(ctx: NodeContext) -> Any:
    context = ctx.context
    return context.get("limit")


def computes(ctx: NodeContext) -> Any:
    return ctx.context.get("lim" + "it")


def many(ctx: NodeContext) -> Any:
    return ctx.context.get_many(["limit"])


def around(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(ctx: NodeContext) -> Any:
        return function(ctx)

    return inner


class Called:
    def __call__(self, ctx: NodeContext) -> Any:
        return ctx.input


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (plain, ()),
        (reads, ("limit", "name")),
        (functools.partial(plain), ()),
        (hands_on, None),
        (keeps, None),
        (computes, None),
        (many, None),
        (around(plain), None),
        (Called(), None),
        (lambda ctx: ctx.input, None),
        (len, None),
    ],
)
def test_what_a_handler_reads_is_known_by_its_code(function: Any, known: tuple[str, ...] | None) -> None:
    found = context_reads(function)
    assert (found if found is None else tuple(sorted(found))) == known
