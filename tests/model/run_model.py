"""A run as a plain state machine, written from the rules and not from the scripts: everything is worked out anew after
each step by looking at the whole graph. It shares the loop search with the compiler, which has tests of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flowcraft_server.blueprints.compiling.loops import LoopForest

LIVE = {"ready", "running", "retrying", "waiting"}
TERMINAL = {"completed", "failed", "cancelled", "timed_out"}


@dataclass(frozen=True)
class ModelEdge:
    """An edge; `kind` is edge or fallback."""

    source: str
    target: str
    index: int
    kind: str = "edge"


@dataclass
class Held:
    """A node somebody holds: what it may be completed with."""

    fencing_token: int
    attached: bool


@dataclass
class RunModel:
    """The state of one run."""

    nodes: list[str]
    edges: list[ModelEdge]
    joins: dict[str, str]
    forest: LoopForest
    starts: tuple[str, ...]
    continue_on_failure: bool
    state: dict[str, str] = field(default_factory=dict)
    decided: dict[ModelEdge, str] = field(default_factory=dict)
    back_taken: dict[str, bool] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    iteration: dict[str, int] = field(default_factory=dict)
    ran_before: set[str] = field(default_factory=set)
    stop: str = ""
    undone: bool = False
    failures: int = 0
    status: str = "queued"
    attached: dict[str, str] = field(default_factory=dict)
    compensations: dict[str, str] = field(default_factory=dict)
    finally_nodes: tuple[str, ...] = ()
    finally_starts: tuple[str, ...] = ()
    completed: list[str] = field(default_factory=list)
    ends_as: str = ""
    left: list[str] = field(default_factory=list)
    undoing: str = ""
    at_last: bool = False

    def begin(self) -> None:
        for node in self.starts:
            self.fire(node)
        self.settle()

    # --- what happens to a node -----------------------------------------------------------------------------------

    def fire(self, node: str) -> None:
        if self.stop:
            self.state[node] = "cancelled"
            self.undone = True
        else:
            self.state[node] = "ready"

    def complete(self, node: str, taken: set[int]) -> None:
        if node in self.attached and self.attached.pop(node) == "fallback":
            self.state[node] = "caught"
        else:
            self.state[node] = "completed"
            self._decide_kind(node, "fallback", "d")
            if node in self.compensations:
                self.completed.append(node)
        for edge in self.out(node):
            self.decide(edge, "t" if edge.index in taken else "d")
        for source in self._waiting_for(node):
            self.state[source] = "ready"
            self.attached[source] = "fallback"
        self.settle()

    def fail(self, node: str) -> None:
        caught = [e for e in self.edges if e.source == node and e.kind == "fallback"]
        fallback_failed = caught and self.state.get(caught[0].target) == "failed"
        was_caught = self.attached.pop(node, "") == "fallback"
        if caught and not self.stop and not was_caught and not fallback_failed:
            self.state[node] = "waiting"
            if self.state.get(caught[0].target) in ("completed", "caught"):
                self.state[node] = "ready"
                self.attached[node] = "fallback"
            else:
                self.decide(caught[0], "t")
        else:
            failed = [node]
            for one in failed:
                failed += self._waiting_for(one)
            for one in failed:
                self.state[one] = "failed"
                self.failures += 1
            goes_on = self.continue_on_failure or self.ends_as != ""
            if not goes_on:
                self.stop_run("fail")
            for one in failed if goes_on else ():
                for edge in self.out(one):
                    self.decide(edge, "f")
                self._decide_kind(one, "fallback", "d")
        self.settle()

    def _waiting_for(self, fallback: str) -> list[str]:
        return [
            e.source
            for e in self.edges
            if e.kind == "fallback" and e.target == fallback and self.state.get(e.source) == "waiting"
        ]

    def give_up(self, node: str) -> None:
        """A running node of a stopping run ended because it was asked to."""
        self.state[node] = "cancelled"
        self.undone = True
        self.settle()

    # --- stopping -------------------------------------------------------------------------------------------------

    def stop_run(self, why: str) -> None:
        if self.stop or self.ends_as or self.status in TERMINAL:
            return
        self.stop = why
        for node, state in self.state.items():
            if state in LIVE - {"running"}:
                self.state[node] = "cancelled"
                self.undone = True

    def force(self) -> None:
        if self.ends_as:
            return
        for node, state in self.state.items():
            if state in LIVE:
                self.state[node] = "cancelled"
                self.undone = True
        self.settle()

    # --- edges ----------------------------------------------------------------------------------------------------

    def out(self, node: str) -> list[ModelEdge]:
        return [e for e in self.edges if e.source == node and e.kind == "edge"]

    def _decide_kind(self, node: str, kind: str, mark: str) -> None:
        for edge in self.edges:
            if edge.source == node and edge.kind == kind:
                self.decide(edge, mark)

    def is_back(self, edge: ModelEdge) -> bool:
        return (edge.source, edge.target) in self.forest.back

    def leaves(self, edge: ModelEdge) -> list[str]:
        return [h for h in self.forest.chain[edge.source] if h not in self.forest.chain[edge.target]]

    def decide(self, edge: ModelEdge, mark: str) -> None:
        if self.is_back(edge):
            if mark == "t":
                self.back_taken[edge.target] = True
        elif not (mark == "d" and self.leaves(edge)):
            self.decided.setdefault(edge, mark)

    # --- what follows ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        while self._settle_nodes() or self._settle_loops():
            pass
        if self.status not in TERMINAL and not self.live():
            self._close()

    def _close(self) -> None:
        """Nothing is active any more: compensations run one after the other, the last completed first, then `finally`."""
        if not self.ends_as:
            outcome = self._outcome()
            if not self.finally_starts and (outcome == "completed" or not self.completed):
                self.status = outcome
                return
            self.ends_as, self.stop = outcome, ""
            self.left = [] if outcome == "completed" else list(self.completed)
        elif self.undoing:
            if self.state[self.undoing] != "completed" and self.ends_as == "cancelled":
                self.ends_as = "failed"
            self.undoing = ""
        if self.left:
            self.undoing = self.compensations[self.left.pop()]
            self.fire(self.undoing)
            return
        if not self.at_last:
            self.at_last = True
            for node in self.finally_starts:
                self.fire(node)
        if not self.live():
            self.status = self.ends_as

    def live(self) -> list[str]:
        return [node for node, state in self.state.items() if state in LIVE]

    def _settle_nodes(self) -> bool:
        for node in self.nodes if not self.ends_as else self.finally_nodes:
            if self.state.get(node, "pending") != "pending":
                continue
            incoming = [e for e in self.edges if e.target == node and not self.is_back(e)]
            if not incoming:
                continue
            marks = [self.decided.get(e, "u") for e in incoming]
            if self.joins[node] == "any" and "t" in marks:
                self.fire(node)
                return True
            if "u" in marks:
                continue
            if self.joins[node] == "all" and "f" not in marks and "t" in marks:
                self.fire(node)
            else:
                self._skip(node, "f" if "f" in marks else "d")
            return True
        return False

    def _skip(self, node: str, mark: str) -> None:
        self.state[node] = "skipped"
        for edge in self.out(node):
            self.decide(edge, mark)
        self._decide_kind(node, "fallback", "d")

    def _settle_loops(self) -> bool:
        for header, loop in reversed(self.forest.loops.items()) if not self.ends_as else ():
            if header in self.closed or any(self.state.get(node) in LIVE for node in loop.region):
                continue
            if self.back_taken.get(header):
                if self.stop:  # it was to go on, so it has not ended
                    self.undone = True
                    continue
                self._iterate(header, loop.region)
                return True
            ways_in = [e for e in self.edges if e.target in loop.region and e.source not in loop.region]
            if any(self.decided.get(e, "u") == "u" for e in ways_in) or not self._begun(loop.region, ways_in):
                continue
            self.closed.add(header)
            for edge in self.edges:
                if self.leaves(edge)[:1] == [header]:
                    self.decided.setdefault(edge, "d")
            return True
        return False

    def _begun(self, region: Iterable[str], ways_in: list[ModelEdge]) -> bool:
        return bool(ways_in) or any(self.state.get(node, "pending") != "pending" for node in region)

    def _iterate(self, header: str, region: set[str]) -> None:
        self.back_taken[header] = False
        self.iteration[header] = self.iteration.get(header, 0) + 1
        for node in region:
            if self.state.get(node, "pending") not in ("pending", "skipped"):
                self.ran_before.add(node)
            self.state[node] = "pending"
        for edge in [e for e in self.decided if e.source in region and e.target in region]:
            del self.decided[edge]
        for edge in [e for e in self.decided if e.target in region and self.joins[e.target] == "any"]:
            self.decided[edge] = "b"
        for inner, loop in self.forest.loops.items():
            if inner != header and loop.header in region:
                self.closed.discard(inner)
                self.back_taken[inner] = False
                self.iteration.pop(inner, None)
        self.fire(header)

    def _outcome(self) -> str:
        if self.stop == "timeout":
            return "timed_out"
        if self.stop == "cancel" and self.undone:
            return "cancelled"
        return "failed" if self.failures else "completed"
