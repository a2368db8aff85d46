"""What the values of a blueprint look like, as far as handlers, inputs, schemas and called blueprints declare it."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft_sdk.protocol.sources import Source, is_expression
from flowcraft_server.blueprints.agent_params import AGENT
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.writes import declared_writes, of_each_handler, writes
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Node
from flowcraft_server.blueprints.schema_walk import Held, Nowhere, Shape, shape_of, walk_shape

GROUPS = ("_outputs", "_own")
"""Beginnings of paths to the outputs of nodes, whatever keys have their names."""

_DEEPEST = 20
"""Names that one is made of, one after the other; those of blueprints that call each other have no end."""
_MOST_PARTS = 200
"""Of a path that is looked at."""
_FAILED_ITEM: Mapping[str, Any] = {"type": "object", "properties": {"error": {}}, "additionalProperties": False}


class ValueShapes:
    """The shapes of a blueprint's values by name."""

    def __init__(self, findings: Findings, blueprint: Blueprint) -> None:
        self._findings = findings
        self._blueprint = blueprint
        self._nodes = {node.id: node for node in blueprint.nodes}
        self._known: dict[tuple[str, str], Shape | None] = {}
        self._depth = 0
        self._written = {key for _, _, key in writes(blueprint)}
        for node in of_each_handler(blueprint):
            self._written.update(declared_writes(findings, node) or ())

    def of_key(self, name: str) -> Shape | None:
        """What a name stands for in inputs, outputs and expressions; None if that is not known."""
        return self._kept("key", name)

    def of_node(self, name: str) -> Shape | None:
        """The output of a node, or of the fallback that stands in for it."""
        return self._kept("node", name)

    def of_own(self, name: str) -> Shape | None:
        """The output that a node has itself."""
        return self._kept("own", name)

    def read(self, parts: Sequence[str], *, lengths: bool) -> tuple[int, Shape | Nowhere | None]:
        """Follow a path from its first name on.

        Returns:
            How many of its parts name what it begins with, and what it leads to from there.
        """
        count, shape = self.base(parts)
        return count, None if shape is None else walk_shape(shape, parts[count:], lengths=lengths)

    def base(self, parts: Sequence[str]) -> tuple[int, Shape | None]:
        """What a path begins with: the longest beginning that is a name here, how many parts it has, and what it stands for."""
        if len(parts) > _MOST_PARTS:
            return len(parts), None
        group = parts[0] if parts[0] in GROUPS else ""
        rest = parts[1:] if group else parts
        for count in range(len(rest), 0, -1):
            name = ".".join(rest[:count])
            if group:
                if name in self._nodes:
                    return count + 1, self.of_own(name) if group == "_own" else self.of_node(name)
            elif self._is_name(name):
                return count, self.of_key(name)
        return len(parts), None

    def _is_name(self, name: str) -> bool:
        blueprint = self._blueprint
        declared = name in (blueprint.inputs_contract or ()) or name in (blueprint.context_keys or ())
        return declared or name in self._nodes or name in self._written

    def _kept(self, what: str, name: str) -> Shape | None:
        if (what, name) not in self._known:
            self._known[what, name] = None  # what is made of itself is not known
            if self._depth < _DEEPEST:
                self._depth += 1
                find = {"key": self._key, "node": self._node, "own": self._own}[what]
                self._known[what, name] = find(name)
                self._depth -= 1
        return self._known[what, name]

    def _key(self, name: str) -> Shape | None:
        """A key holds what it is declared to hold where that is checked: at the start, and those of `context:` at each write."""
        contract, keys = self._blueprint.inputs_contract or {}, self._blueprint.context_keys or {}
        rule = contract.get(name, keys.get(name))
        if rule is not None:
            other = name in self._nodes or (name in self._written and (name in contract or name not in keys))
            kind = {"list": "array"}.get(rule.get("type", "any"), rule.get("type", "any"))
            return None if other or kind == "any" else shape_of({"type": kind})
        return None if name in self._written else self._kept("node", name)

    def _node(self, name: str) -> Shape | None:
        node = self._nodes.get(name)
        own = self._kept("own", name) if node is not None else None
        if node is None or own is None or node.config.fallback is None:
            return own
        other = self._kept("node", node.config.fallback)
        return None if other is None else own + other

    def _own(self, name: str) -> Shape | None:
        node = self._nodes[name]
        if node.uses in ("wait", "webhook"):
            schema = node.params.get("schema")
            return shape_of(schema) if isinstance(schema, Mapping) else None
        if node.uses == "batch-gather":
            scatter = next((each for each in self._nodes.values() if each.params.get("gatherNodeId") == name), None)
            return None if scatter is None else self._list_of(scatter, "workerUsesKey")
        if node.uses == "map":
            return self._list_of(node, "uses")
        if node.uses == "subflow":
            return self._of_called(node)
        return self._of_handler(node.uses, node.params)

    def _list_of(self, node: Node, worker: str) -> Shape | None:
        """What a batch gives: what its items give, in a list."""
        uses, params = node.params.get(worker), node.params.get("params")
        of_item = (
            self._of_called(node)
            if called_id(node) is not None
            else self._of_handler(uses, params if isinstance(params, Mapping) else {})
            if isinstance(uses, str)
            else None
        )
        if of_item is None:
            return shape_of({"type": "array"})
        lists: list[tuple[Any, Any]] = [({"type": "array", "items": schema}, root) for schema, root in of_item]
        if node.config.on_item_error == "collect":
            lists += shape_of({"type": "array", "items": _FAILED_ITEM})
        return tuple(lists)

    def _of_handler(self, uses: str, params: Mapping[str, Any]) -> Shape | None:
        findings = self._findings
        if uses in BUILTIN_USES:
            return None
        if uses == AGENT and uses not in (findings.handlers or {}):
            output = params.get("output")
            return shape_of(output if isinstance(output, Mapping) else {"type": "string"})
        spec = findings.spec(uses)
        if spec is None or spec.output is None:
            return None
        return shape_of(findings.catalog.schema_of(spec.output))

    def _of_called(self, node: Node) -> Shape | None:
        """What a call gives: what the node makes of the outcome, else what the called blueprint declares."""
        called = called_id(node)
        child = self._findings.called(called) if called is not None else None
        if child is None:
            return None
        returned, within = node.params.get("outputs"), shapes_of(self._findings, child)
        if isinstance(returned, Mapping) and returned:
            made = {str(name): within.of_returned(source) for name, source in returned.items()}
            return next(iter(made.values())) if len(made) == 1 else _object(made)
        if child.outputs is None:
            return None
        return _object({name: within.of_source(source) for name, source in child.outputs.items()})

    def of_source(self, source: object) -> Shape | None:
        """What a source of this blueprint gives."""
        if not isinstance(source, str) or is_expression(source):
            return None
        found = self.read(source.split("."), lengths=False)[1]
        return None if isinstance(found, Nowhere) else found

    def of_returned(self, source: object) -> Shape | None:
        """What a source gives with which a caller reads the outcome of this blueprint: its declared outputs come first."""
        if not isinstance(source, str) or is_expression(source):
            return None
        found = self.read_returned(source.split("."), lengths=False)[1]
        return None if isinstance(found, Nowhere) else found

    def read_returned(self, parts: Sequence[str], *, lengths: bool) -> tuple[int, Shape | Nowhere | None]:
        """Follow a path of a caller, as `read` does."""
        declared: Mapping[str, Source] = self._blueprint.outputs or {}
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            if name in declared:
                shape = self.of_source(declared[name])
                return count, None if shape is None else walk_shape(shape, parts[count:], lengths=lengths)
        return self.read(parts, lengths=lengths)


def shapes_of(findings: Findings, blueprint: Blueprint) -> ValueShapes:
    """The shapes of a blueprint's values: of the one under examination, or of one that it calls."""
    found: ValueShapes = findings.keep(blueprint, "shapes", lambda: ValueShapes(findings, blueprint))
    return found


def _object(fields: Mapping[str, Shape | None]) -> Shape:
    """An object with these keys and no others."""
    held = {name: Held(shape) for name, shape in fields.items()}
    return shape_of({"type": "object", "properties": held, "additionalProperties": False})
