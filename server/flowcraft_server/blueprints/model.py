"""A blueprint as data: nodes, edges and what they are set to. Nothing in here changes after it is made.

Files in any form are read into this model by the loader; `Blueprint.to_plain` gives the one plain form that is shown,
hashed and stored, in the words of flowcraft's JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import Path, SourcePosition, SourcePositions
from flowcraft_sdk.protocol.node_kinds import BUILTIN_USES
from flowcraft_sdk.protocol.sources import Source
from flowcraft_sdk.protocol.usage_sums import budget_of
from flowcraft_sdk.records import Budget
from flowcraft_server.blueprints.durations import parse_duration_ms
from flowcraft_server.blueprints.node_config import NOTHING_SET, NodeConfig, RetryDelay, plain_budget
from flowcraft_server.blueprints.run_limits import RunLimits

__all__ = [
    "BATCHES",
    "BUILTIN_USES",
    "WAITING_USES",
    "Blueprint",
    "Diagnostic",
    "Edge",
    "Node",
    "NodeConfig",
    "Path",
    "RetryDelay",
    "SourcePosition",
    "SourcePositions",
    "parse_duration_ms",
]

WAITING_USES = ("subflow", "wait", "sleep", "webhook")
"""Those that wait for something outside of the worker; the defaults' `timeout` is not for them."""


BATCHES = ("map", "batch-scatter")
"""Those whose `config` is about their items."""


@dataclass(slots=True, unsafe_hash=True)  # not frozen: those take three times as long to make
class Node:
    """A node.

    Attributes:
        id: unique in its blueprint.
        uses: name of a handler, or one of `BUILTIN_USES`.
        params: settings for the handler.
        inputs: where its input comes from: a source, or sources by name; None for what its incoming edge brings.
    """

    id: str
    uses: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | Mapping[str, Source] | None = None
    config: NodeConfig = field(default_factory=NodeConfig)

    def to_plain(self) -> dict[str, Any]:
        """The node in the words of the JSON form."""
        plain: dict[str, Any] = {"id": self.id, "uses": self.uses}
        if self.params:
            plain["params"] = _copied(self.params)
        if self.inputs is not None:
            plain["inputs"] = _copied(self.inputs)
        config = self.config.to_plain()
        if config:
            plain["config"] = config
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`.

        Raises:
            KeyError: `id` or `uses` is missing.
            ValueError: a duration cannot be read.
        """
        params, inputs, config = plain.get("params"), plain.get("inputs"), plain.get("config")
        return cls(
            plain["id"],
            plain["uses"],
            _copied(params) if params else {},
            _copied(inputs),
            NodeConfig.from_plain(config) if config else NOTHING_SET,
        )


@dataclass(slots=True, unsafe_hash=True)  # not frozen, see `Node`
class Edge:
    """An edge.

    Attributes:
        action: taken when the source returns this action; None for any.
        condition: taken when this expression holds; None for always.
        transform: expression for what the target gets; None for the source's output.
        place: its path in the file it was read from, such as `edges[2]` or `nodes.a.next.x`.
    """

    source: str
    target: str
    action: str | None = None
    condition: str | None = None
    transform: str | None = None
    place: str = field(default="", compare=False)

    def to_plain(self) -> dict[str, Any]:
        """The edge in the words of the JSON form."""
        plain = {"source": self.source, "target": self.target}
        if self.action is not None:
            plain["action"] = self.action
        if self.condition is not None:
            plain["condition"] = self.condition
        if self.transform is not None:
            plain["transform"] = self.transform
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`.

        Raises:
            KeyError: `source` or `target` is missing.
        """
        get = plain.get
        return cls(plain["source"], plain["target"], get("action"), get("condition"), get("transform"))


@dataclass(frozen=True)
class Blueprint:
    """A graph of nodes and edges.

    Attributes:
        nodes: in the order of the file.
        edges: in the order of the file.
        inputs_contract: what a run must be started with, by name `{"type", "default", "required", "description",
            "enum"}`; None when nothing is laid down.
        outputs: what a run's result holds, by name the source it comes from; None for its whole context.
        context_keys: the context keys that handlers write, by name `{"type", "description"}`; None when not declared.
        on_failure: a node that fails for good stops the run, or lets other branches go on first.
        run_limits: how many of its runs there may be at once; None for any number.
        finally_nodes: those of the nodes that run however the run ends, when nothing else of it does.
        budget: what the model calls of a run may use.
        cycle_entry_points: where cycles that nothing leads into begin.
        metadata: free, e.g. `version`.
        file: the file it was read from.
        tests: the file's test cases, as they stand there.
        positions: where each value stands, by its path in the plain form; nodes by id, edges by index.
        complete: False when the file holds nodes or edges that could not be read.
        nodes_known: False when there are nodes among them of which not even the id could be read.
        stray_keys: by the id of a node, keys that it cannot have; they were reported, and stand for what it lacks.
    """

    id: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    description: str = ""
    inputs_contract: Mapping[str, Mapping[str, Any]] | None = None
    outputs: Mapping[str, Source] | None = None
    context_keys: Mapping[str, Mapping[str, Any]] | None = None
    on_failure: Literal["stop", "continue"] = "stop"
    finally_nodes: tuple[str, ...] = ()
    budget: Budget | None = None
    run_limits: RunLimits | None = None
    cycle_entry_points: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = field(default=None, compare=False)
    tests: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    positions: SourcePositions = field(default_factory=SourcePositions, compare=False, repr=False)
    complete: bool = field(default=True, compare=False, repr=False)
    nodes_known: bool = field(default=True, compare=False, repr=False)
    stray_keys: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def compensations(self) -> Mapping[str, str]:
        """The nodes that undo others, each with the first of these."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if node.config.compensate is not None:
                found.setdefault(node.config.compensate, node.id)
        return found

    @cached_property
    def closing_nodes(self) -> frozenset[str]:
        """The nodes that run when nothing else of a run does: compensations, and those of `finally`."""
        return frozenset(self.compensations) | frozenset(self.finally_nodes)

    def to_plain(self) -> dict[str, Any]:
        """The plain form: JSON values only, always the same for the same blueprint; what is not set is left out."""
        plain: dict[str, Any] = {"id": self.id}
        if self.description:
            plain["description"] = self.description
        if self.inputs_contract is not None:
            plain["inputs"] = _copied(self.inputs_contract)
        if self.outputs is not None:
            plain["outputs"] = _copied(self.outputs)
        if self.context_keys is not None:
            plain["context"] = _copied(self.context_keys)
        if self.on_failure != "stop":
            plain["onFailure"] = self.on_failure
        if self.finally_nodes:
            plain["finally"] = list(self.finally_nodes)
        if self.budget is not None:
            plain["budget"] = plain_budget(self.budget)
        if self.run_limits is not None:
            plain["limits"] = self.run_limits.to_plain()
        metadata = _copied(self.metadata)
        if self.cycle_entry_points:
            metadata["cycleEntryPoints"] = list(self.cycle_entry_points)
        if metadata:
            plain["metadata"] = metadata
        plain["nodes"] = [node.to_plain() for node in self.nodes]
        plain["edges"] = [edge.to_plain() for edge in self.edges]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`, for data that was checked before; the loader reads what people write.

        Raises:
            KeyError: a required key is missing.
            ValueError: a duration cannot be read.
        """
        metadata = _copied(plain.get("metadata") or {})
        entry_points = tuple(metadata.pop("cycleEntryPoints", None) or ())
        return cls(
            id=plain["id"],
            nodes=tuple(Node.from_plain(node) for node in plain["nodes"]),
            edges=tuple(Edge.from_plain(edge) for edge in plain.get("edges") or ()),
            description=plain.get("description", ""),
            inputs_contract=_copied(plain.get("inputs")),
            outputs=_copied(plain.get("outputs")),
            context_keys=_copied(plain.get("context")),
            on_failure=plain.get("onFailure", "stop"),
            finally_nodes=tuple(plain.get("finally") or ()),
            budget=budget_of(plain.get("budget")),
            run_limits=RunLimits.from_plain(plain["limits"]) if plain.get("limits") else None,
            cycle_entry_points=entry_points,
            metadata=metadata,
        )


def _copied(value: Any) -> Any:
    """A copy down to the leaves, of dicts and lists: what was given may be changed later without harm."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
