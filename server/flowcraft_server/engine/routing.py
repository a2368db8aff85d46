"""Which edges fire when a node is done, and what they carry (blueprint semantics 2.3, 2.6)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.protocol.expressions import Expression, truthy
from flowcraft_server.blueprints.compiling.loops import LOOP_CONTROLLER
from flowcraft_server.blueprints.compiling.plan import PlanEdge, PlanNode
from flowcraft_server.engine.failures import UnmatchedAction
from flowcraft_server.engine.values import MISSING


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions may read.

    Attributes:
        input: the node's input, for conditions; a transform sees the value that the edge carries.
        get: a context key's value, or `MISSING`.
        whole: the whole context, for an expression that uses it as one value.
    """

    output: Any
    action: str | None
    input: Any
    get: Callable[[str], Any]
    whole: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Routing:
    """The decision for each outgoing edge (t taken, d dead), and the values of taken edges with a transform."""

    decisions: str
    values: tuple[tuple[int, Any], ...]


def route(node: PlanNode, scope: Scope) -> Routing:
    """Decide a node's outgoing edges.

    Raises:
        UnmatchedAction: no edge takes the action and there is no edge without one.
    """
    if not node.edges:
        return Routing("", ())
    taken = _taken(node, scope)
    values = tuple((edge.index, _carried(edge, node, scope)) for edge in taken if edge.transform is not None)
    fired = {edge.index for edge in taken}
    return Routing("".join("t" if edge.index in fired else "d" for edge in node.edges), values)


def _taken(node: PlanNode, scope: Scope) -> list[PlanEdge]:
    def holds(edge: PlanEdge) -> bool:
        return edge.condition is None or truthy(_evaluate(edge.condition, scope, scope.input))

    if node.node.uses == LOOP_CONTROLLER:
        first = [edge for edge in node.edges if edge.condition is not None and holds(edge)]
        if first:
            return first
    named = [edge for edge in node.edges if edge.action is not None]
    defaults = [edge for edge in node.edges if edge.action is None]
    matching = [edge for edge in named if edge.action == scope.action] if scope.action is not None else []
    taken = [edge for edge in matching if holds(edge)]
    if taken:
        return taken
    if not matching and not defaults:
        raise UnmatchedAction(_unmatched(node, scope.action, named))
    return [edge for edge in defaults if holds(edge)]


def _unmatched(node: PlanNode, action: str | None, named: list[PlanEdge]) -> str:
    known = ", ".join(repr(name) for name in dict.fromkeys(edge.action for edge in named))
    got = "no action" if action is None else f"the action {action!r}"
    return f"node '{node.node.id}' returned {got}; its edges take {known}, and there is no edge without an action"


def _carried(edge: PlanEdge, node: PlanNode, scope: Scope) -> Any:
    """The transformed value; a target whose `inputs` names another node has that node's output transformed."""
    assert edge.transform is not None
    value = scope.output
    named = node.transform_sources.get(edge.index)
    if named is not None:
        other = scope.get(f"_outputs.{named}")
        value = None if other is MISSING else other
    return _evaluate(edge.transform, scope, value)


def _evaluate(expression: Expression, scope: Scope, input_value: Any) -> Any:
    names: dict[str, Any] = {}
    for name in expression.names:
        if name == "result":
            names[name] = {"output": scope.output, "action": scope.action}
        elif name == "context":
            names[name] = context_object(expression, scope)
        elif name == "input":
            names[name] = input_value
        elif name in ("_outputs", "_inputs"):
            names[name] = _grouped(name, [path[1:] for path in expression.reads if path[0] == name], scope)
        else:
            value = scope.get(name)
            if value is not MISSING:
                names[name] = value
    return expression.evaluate(names)


def context_object(expression: Expression, scope: Scope) -> dict[str, Any]:
    """The object `context` of an expression: just the keys it reads, or all if it uses the context as one value."""
    paths = [path[1:] for path in expression.reads if path[0] == "context"]
    if any(not path for path in paths):
        return scope.whole()
    found: dict[str, Any] = {}
    for path in paths:
        if path[0] in ("_outputs", "_inputs"):
            found[path[0]] = found.get(path[0], {}) | _grouped(path[0], [path[1:]], scope)
            continue
        value = scope.get(path[0])
        if value is not MISSING:
            found[path[0]] = value
    return found


def _grouped(group: str, paths: list[tuple[str, ...]], scope: Scope) -> dict[str, Any]:
    """`_outputs.a` and the like are keys of their own; an expression sees them as one object `_outputs`."""
    values = {path[0]: scope.get(f"{group}.{path[0]}") for path in paths if path}
    return {name: value for name, value in values.items() if value is not MISSING}
