"""Short forms for the graphs of these tests."""

from collections.abc import Callable, Mapping
from typing import Any

from flowcraft_sdk import NodeContext, NodeResult, RunSnapshot
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
TIMEOUT = 10.0


def graph(nodes: Mapping[str, Any], *edges: str, **extra: Any) -> dict[str, Any]:
    """A blueprint `g` from `{id: uses}` or `{id: {...}}` and edges `a b` or `a b action`."""
    return {
        "id": "g",
        "nodes": [{"id": k, **({"uses": v} if isinstance(v, str) else v)} for k, v in nodes.items()],
        "edges": [dict(zip(("source", "target", "action"), edge.split(), strict=False)) for edge in edges],
        **extra,
    }


def joined(uses: str, how: str = "any") -> dict[str, Any]:
    """A node that joins."""
    return {"uses": uses, "config": {"joinStrategy": how}}


def echo(ctx: NodeContext) -> Any:
    """Its input."""
    return ctx.input


def name(ctx: NodeContext) -> str:
    """Its node's id."""
    return ctx.node_id


def boom(ctx: NodeContext) -> Any:
    """Fails."""
    raise ValueError("payment declined")


def says(action: str | None, output: Any = None) -> Callable[[NodeContext], NodeResult]:
    """A handler that returns an action."""
    return lambda ctx: NodeResult(output, action)


def ran(snapshot: RunSnapshot) -> set[str]:
    """Nodes that were begun."""
    return {
        node_id
        for node_id, node in snapshot.nodes.items()
        if node.attempts and node.status not in ("pending", "skipped")
    }


def answer(env: TestEnvironment, run_id: str, node: str, payload: bytes, action: str = "") -> list[bytes]:
    """Give a waiting node its answer."""
    call = scripts.signal(
        env.keys, run_id=run_id, instance_id=node, signal_id=f"{node}-1", action=action, payload=payload
    )
    return list(env.link.call(call))
