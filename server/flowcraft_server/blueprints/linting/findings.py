"""What the checks of the linter share: the blueprint with its look-ups, and the list of what they find."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from heapq import merge
from typing import TYPE_CHECKING, Any

from flowcraft_sdk._config.source_positions import Path, SourcePosition, SourcePositions, written_path
from flowcraft_server.blueprints.agent_params import PROVIDED
from flowcraft_server.blueprints.graph import Arc, Graph
from flowcraft_server.blueprints.linting.catalog import Catalog, always_run
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Diagnostic, Node
from flowcraft_server.blueprints.node_config import NOTHING_SET
from flowcraft_server.blueprints.suggestions import Lookups, suggested

if TYPE_CHECKING:
    from flowcraft_sdk.node import HandlerSpec


class Findings:
    """One blueprint under examination."""

    def __init__(
        self,
        blueprint: Blueprint,
        handlers: "Mapping[str, HandlerSpec] | None",
        blueprints: "Mapping[str, Blueprint] | Catalog",
        handler_params: Mapping[str, Mapping[str, Any]],
        handler_places: SourcePositions | None = None,
    ) -> None:
        self.blueprint = blueprint
        self.handlers = handlers
        self.handler_params = handler_params
        self.handler_places = handler_places or SourcePositions()
        if not isinstance(blueprints, Catalog) or blueprint.id not in blueprints.blueprints:
            others = blueprints.blueprints if isinstance(blueprints, Catalog) else blueprints
            partial = isinstance(blueprints, Catalog) and blueprints.is_partial
            blueprints = Catalog({**others, blueprint.id: blueprint}, is_partial=partial)
        self.catalog = blueprints
        self._own: dict[str, Any] = {}
        self.graph = Graph(blueprint)
        self.diagnostics: list[Diagnostic] = []
        self._lookups = Lookups()
        self._actions: dict[tuple[str | None, str], _Known | None] = {}
        self.has_wrong_names = False
        """Whether an edge, a fallback or an action was found to be misspelt: what the graph lacks then follows from that."""
        self.undecorated: Mapping[str, str] = {}
        self.has_unknown_handlers = False
        """Whether a handler that a node uses is not known: neither is what it writes."""
        self._consequences: list[Diagnostic] = []
        self._lacking: list[tuple[Diagnostic, Path, str]] = []
        self._suggested: set[tuple[Path, str]] = set()

    def error(self, path: Path, message: str, *, key: bool = False, excerpt: str = "") -> None:
        """Note an error at a path of the plain form; `key` points at the key and not at its value."""
        self._note("error", path, message, key, excerpt)

    def warning(self, path: Path, message: str, *, key: bool = False) -> None:
        """Note a warning, as `error` does."""
        self._note("warning", path, message, key, "")

    def note(self, diagnostic: Diagnostic) -> None:
        """Note what is wrong with another file."""
        self.diagnostics.append(diagnostic)

    def lacks(self, path: Path, message: str, *names: str, below: Path | None = None) -> None:
        """Note that a key is needed and is not there; it is left out if a misspelt or misplaced key may stand for it.

        Args:
            names: the keys that would do.
            below: what the key would stand below, if that is not `path` without its last part.
        """
        if path[0] == "nodes" and path[1] in self.blueprint.stray_keys:
            return
        self.error(path, message)
        place = path[:-1] if below is None else below
        self._lacking += [(self.diagnostics[-1], place, name) for name in names]

    def consequence(self, path: Path, message: str) -> None:
        """Note a warning that is left out if a wrong name explains it."""
        self.warning(path, message)
        self._consequences.append(self.diagnostics[-1])

    def settle(self) -> None:
        """Leave out the warnings that wrong names explain. Called when all checks have run."""
        if self.has_wrong_names:
            explained = set(self._consequences)
            self.diagnostics = [diagnostic for diagnostic in self.diagnostics if diagnostic not in explained]
        misspelt = {lacking for lacking, below, name in self._lacking if (below, name) in self._suggested}
        if misspelt:
            self.diagnostics = [diagnostic for diagnostic in self.diagnostics if diagnostic not in misspelt]

    def _note(self, severity: Any, path: Path, message: str, key: bool, excerpt: str) -> None:
        if key:
            self._suggested.update((path[:-1], name) for name in suggested([message]))
        position = self.blueprint.positions.of_key(path) if key else self.position(path)
        self.diagnostics.append(Diagnostic(severity, position, self.shown(path), message, excerpt))

    def position(self, path: Path) -> SourcePosition | None:
        """Where the value at a path stands, or of what it belongs to."""
        positions = self.blueprint.positions
        if len(path) == 2 and path[0] == "nodes" and path[1] in self.graph.nodes:
            return positions.of_key(path)
        return positions.of(path)

    def shown(self, path: Path) -> str:
        """A path as the file has it: an edge that was not written in `edges` goes by its own place."""
        if path[:1] != ("edges",) or len(path) < 2:
            return self.blueprint.positions.shown(path)
        edge = self.blueprint.edges[int(path[1])]
        if not edge.place:
            return written_path(path)
        written_out = edge.place.startswith("edges[") and path in self.blueprint.positions.values
        return edge.place + "".join(f".{part}" for part in path[2:]) if written_out else edge.place

    def nearest(self, name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
        """The known name that is most like this one; no more of them are looked for in a file full of mistakes."""
        return self._lookups.nearest(name, known, cutoff)

    def may_look_up(self) -> bool:
        """Whether another name may be looked for among those that are known; it counts as done then."""
        return self._lookups.may()

    def meant(self, name: str, known: Iterable[str]) -> str:
        """`; did you mean 'x'?`, or nothing."""
        return self._lookups.did_you_mean(name, known)

    def line_of(self, path: Path) -> str:
        """` (line 20)`, or nothing."""
        position = self.position(path)
        return f" (line {position.line})" if position is not None else ""

    def spec(self, name: str) -> "HandlerSpec | None":
        """What a handler declares; None for built-in kinds and for handlers that are not known."""
        if self.handlers is None or name in BUILTIN_USES:
            return None
        return self.handlers.get(name) or PROVIDED.get(name)

    def called(self, blueprint_id: str) -> Blueprint | None:
        """The blueprint with an id: the one under examination, or one that it may call."""
        return self.blueprint if blueprint_id == self.blueprint.id else self.catalog.blueprints.get(blueprint_id)

    def keep(self, blueprint: Blueprint, what: str, find: Callable[[], Any]) -> Any:
        """What `find` says of a blueprint, which does not change while it is checked: it is asked once."""
        if blueprint is not self.blueprint:
            return self.catalog.keep(blueprint, what, find)
        if what not in self._own:
            self._own[what] = find()
        return self._own[what]

    @cached_property
    def set_up(self) -> list[Node]:
        """The nodes that have inputs, params or a config: in large blueprints most have none, and many checks are about these."""
        return [
            node
            for node in self.graph.nodes.values()
            if node.inputs is not None or node.params or node.config is not NOTHING_SET
        ]

    @cached_property
    def stand_ins(self) -> frozenset[str]:
        """The nodes that are fallbacks of others."""
        fallbacks = (node.config.fallback for node in self.set_up)
        return frozenset(fallback for fallback in fallbacks if fallback is not None)

    @cached_property
    def always_run(self) -> set[str]:
        """The nodes that run in every run that does not fail."""
        return always_run(self.graph)

    def actions_of(self, node: Node) -> "Actions | None":
        """The actions that a node may return, None if that is not known."""
        own = self._own_actions(node)
        fallback = self.graph.nodes.get(node.config.fallback or "")
        if fallback is None or own is None:
            return None if own is None else Actions((own,))
        others = self._own_actions(fallback)  # a fallback's action stands for that of the node that failed
        return None if others is None else Actions((own, others))

    def _own_actions(self, node: Node) -> "_Known | None":
        key = node.id if node.uses in ("wait", "webhook") else None, node.uses
        if key not in self._actions:
            declared = self._declared_actions(node)
            self._actions[key] = None if declared is None else _Known(declared)
        return self._actions[key]

    def _declared_actions(self, node: Node) -> frozenset[str] | None:
        if node.uses == "loop-controller":
            return frozenset({"continue", "break"})
        if node.uses in ("wait", "webhook"):
            declared = node.params.get("actions")
            if not isinstance(declared, list | tuple):
                return None
            timeout = node.params.get("onTimeout")
            return frozenset(map(str, [*declared, timeout] if timeout is not None else declared))
        if node.uses in BUILTIN_USES:
            return frozenset()
        spec = self.spec(node.uses)
        return None if spec is None or spec.actions is None else frozenset(spec.actions)

    def can_be_taken(self, arc: Arc) -> bool:
        """Whether the source may return what the edge asks for."""
        if arc.kind != "edge" or arc.edge.action is None:
            return True
        actions = self.actions_of(self.graph.nodes[arc.source])
        return actions is None or arc.edge.action in actions


class _Known:
    """What a handler or a node may return, sorted once: many nodes may share it."""

    def __init__(self, actions: frozenset[str]) -> None:
        self.actions = actions

    @cached_property
    def sorted(self) -> list[str]:
        return sorted(self.actions)


class Actions:
    """The actions that a node may return: its own, and those of its fallback. They are not put into one set for each node."""

    def __init__(self, parts: tuple[_Known, ...]) -> None:
        self._parts = parts

    def __contains__(self, action: object) -> bool:
        return any(action in part.actions for part in self._parts)

    def __bool__(self) -> bool:
        return any(part.actions for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        """Each of them once, in the order of their names."""
        last = None
        for action in merge(*(part.sorted for part in self._parts)):
            if action != last:
                yield action
            last = action


def node_path(node: Node, *rest: str | int) -> Path:
    """A path within a node."""
    return ("nodes", node.id, *rest)
