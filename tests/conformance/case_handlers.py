"""The handlers that the conformance cases use, as their description lays them down."""

import json
from typing import Any

from flowcraft_sdk import NodeContext, NodeResult


def num(value: Any) -> Any:
    """A number itself, the sum of an object's numbers, 0 for anything else; true and false are no numbers."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict):
        return sum(num(v) for v in value.values() if isinstance(v, int | float))
    return 0


def const(ctx: NodeContext) -> Any:
    return ctx.params.get("value")


def echo(ctx: NodeContext) -> Any:
    return ctx.input


def add(ctx: NodeContext) -> Any:
    return num(ctx.input) + ctx.params["n"]


def sum_(ctx: NodeContext) -> Any:
    return num(ctx.input)


def double(ctx: NodeContext) -> Any:
    return num(ctx.input) * 2


def concat(ctx: NodeContext) -> Any:
    pairs = (ctx.input or {}).items()
    return "|".join(f"{k}={json.dumps(v, separators=(',', ':'), ensure_ascii=False)}" for k, v in pairs)


def route(ctx: NodeContext) -> Any:
    return NodeResult(ctx.input, ctx.params["action"])


def route_by(ctx: NodeContext) -> Any:
    actions = ctx.params["actions"]
    return NodeResult(ctx.input, actions[num(ctx.input) % len(actions)])


def fail(ctx: NodeContext) -> Any:
    raise RuntimeError(ctx.params.get("message", "boom"))


def flaky(ctx: NodeContext) -> Any:
    if ctx.attempt <= ctx.params["times"]:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.params.get("value")


def set_(ctx: NodeContext) -> Any:
    ctx.context.set(ctx.params["key"], ctx.params.get("value"))
    return ctx.params.get("value")


def get(ctx: NodeContext) -> Any:
    return ctx.context.get(ctx.params["key"])


def incr(ctx: NodeContext) -> Any:
    value = (ctx.context.get(ctx.params["key"]) or 0) + ctx.params["by"]
    ctx.context.set(ctx.params["key"], value)
    return value


HANDLERS = {
    "const": const,
    "echo": echo,
    "add": add,
    "sum": sum_,
    "double": double,
    "concat": concat,
    "route": route,
    "route_by": route_by,
    "fail": fail,
    "flaky": flaky,
    "set": set_,
    "get": get,
    "incr": incr,
}
