"""The context as one running node sees it: what came with its claim, its own writes on top. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import check_key, check_key_count
from flowcraft_sdk.protocol.context_input import misfit_of
from flowcraft_sdk.protocol.joins import taken_edges
from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.failures import InvalidContextValue

MISSING: Final = object()
"""What a look-up gives for a key that is nowhere; None is an ordinary value."""


CATCH_ERROR = "_catch_error"
"""The key under which a fallback finds the failure that it stands in for."""


class NodeValues:
    """Claimed values, decoded on first use, and the writes that become visible when the node completes."""

    def __init__(self, plan: Plan, plan_node: PlanNode, claim: Claim, max_value: int | None = None) -> None:
        self.plan = plan
        self.plan_node = plan_node
        self.claim = claim
        self.max_value = max_value
        self.writes: dict[str, bytes] = {}
        self.deletes: set[str] = set()
        self.output: Any = MISSING
        reads = plan_node.reads if claim.item is None else ()
        self._fields: dict[str, bytes | None] = dict(zip(reads, claim.values, strict=False)) if reads else {}
        self._decoded: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Write a context key. Encoded at once, so that a value that cannot be stored fails where it is set.

        Raises:
            InvalidContextValue: the blueprint declares another type for the key.
            SerializationError: it cannot be stored.
        """
        key = check_key(key)
        self._check_declared(key, value)
        encoded = wire.dumps(value, path=f"context.{key}", limit=self.max_value)
        check_key_count(len(self.writes) + (key not in self.writes))
        self.writes[key] = encoded
        self.deletes.discard(key)

    def _check_declared(self, key: str, value: Any) -> None:
        """Refuse a value of another type than the blueprint declares for the key.

        Raises:
            InvalidContextValue: it is one. Null is none: the key holds nothing then.
        """
        declared = self.plan.blueprint.context_keys
        rule = declared.get(key) if declared is not None and value is not None else None
        wrong = misfit_of(value, rule) if rule is not None else ""
        if wrong:
            raise InvalidContextValue(
                f"context.{key} of node '{self.claim.instance_id}': {wrong} (declared in `context:`)"
            )

    def delete(self, key: str) -> None:
        """Delete a context key."""
        key = check_key(key)
        self.writes.pop(key, None)
        self.deletes.add(key)

    def own(self, key: str) -> Any:
        """What this node itself wrote or put out under the key; `MISSING` if nothing."""
        if key in self.writes:
            return wire.loads(self.writes[key])
        if key == CATCH_ERROR and self.plan_node.fallback_of:
            return self._caught()
        if self.output is not MISSING and key in (self.claim.node_id, f"_outputs.{self.claim.node_id}"):
            return self.output
        return MISSING

    def _caught(self) -> Any:
        """What a fallback sees of the failure that it stands in for."""
        sources = list(self.plan_node.fallback_of)
        if self.claim.input_edge:
            sources.insert(0, self.plan_node.incoming[self.claim.input_edge - 1][0])
        raw = next((found for source in sources if (found := self.claimed(f"f:{source}")) is not None), None)
        if raw is None:
            return MISSING
        failure = wire.loads(raw)
        names = ("type", "message", "node", "details", "traceback")
        return {name: failure.get(name) for name in names} | {"attempts": failure.get("attempt")}

    def fields(self, key: str) -> tuple[str, ...]:
        """Run-hash fields that decide the key's value, besides the node's own writes."""
        if key.startswith("_inputs."):
            node = self.plan.nodes.get(key[len("_inputs.") :])
            if node is not None:
                return (
                    f"c:{key}",
                    f"j:{node.node.id}",
                    *[name for names in input_sources(self.plan, node) for name in names],
                )
        return self.plan.value_fields(key)

    def add_claimed(self, fields: Mapping[str, bytes | None]) -> None:
        """Take note of fields that were read after the claim."""
        self._fields.update(fields)

    def knows(self, fields: Sequence[str]) -> bool:
        """Whether the claim brought all of these fields."""
        return all(field in self._fields for field in fields)

    def claimed(self, field: str) -> bytes | None:
        """A field's value as the claim brought it."""
        return self._fields.get(field)

    def known(self, key: str) -> Any:
        """The key's value from writes and claimed fields alone (those must be known)."""
        own = self.own(key)
        if own is not MISSING or key in self.deletes:
            return own
        if key not in self._decoded:
            self._decoded[key] = self.pick(key, self._fields)
        return self._decoded[key]

    def pick(self, key: str, fields: Mapping[str, bytes | None]) -> Any:
        """The key's value, given the fields that decide it."""
        if key.startswith("_inputs.") and fields.get(f"c:{key}") is None:
            node = self.plan.nodes.get(key[len("_inputs.") :])
            raw = edge_value(self.plan, node, fields) if node is not None else None
            return MISSING if raw is None else wire.loads(raw)
        for field in self.plan.value_fields(key):
            raw = fields.get(field)
            if raw is not None:
                return wire.loads(raw)
        return MISSING


def input_sources(plan: Plan, node: PlanNode) -> list[tuple[str, ...]]:
    """For each incoming edge, the fields that may hold the value it brings, the first present one counts."""
    sources: list[tuple[str, ...]] = []
    for source, kind, index in node.incoming:
        if kind == "compensation":
            sources.append((f"ci:{node.node.id}",))
        elif kind == "fallback":
            sources.append((f"x:{source}>fallback",))
        elif kind == "edge" and plan.nodes[source].edges[index].transform is not None:
            sources.append((f"x:{source}>{index}",))
        else:
            sources.append((f"s:{source}", f"o:{source}"))
    return sources


def edge_value(plan: Plan, node: PlanNode, fields: Mapping[str, bytes | None]) -> bytes | None:
    """The value that the last taken edge into a node brought, as the claim would have it."""
    return next((raw for _, raw in edge_values(plan, node, fields)), None)


def edge_values(plan: Plan, node: PlanNode, fields: Mapping[str, bytes | None]) -> Iterator[tuple[int, bytes]]:
    """What the taken edges into a node brought, the last one first, each with the edge's position from 1."""
    sources = input_sources(plan, node)
    joined = fields.get(f"j:{node.node.id}")
    for index in taken_edges(joined.decode() if joined else None, len(sources)):
        for field in sources[index]:
            raw = fields.get(field)
            if raw is not None:
                yield index + 1, raw
                break
