"""Which nodes of an ended run keep their outcomes in a run that does it again. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowcraft_sdk.protocol.ended_run import FINISHED, EndedRun
from flowcraft_sdk.protocol.plan_graph import BACK, BATCH, EDGE, EXIT, FALLBACK, PlanGraph, PlanLink

TAKEN = ("t", "b")
"""Marks of an edge that may have made its target ready: `b` are decisions of another iteration."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What differs between the plan of the old run and that of the new one; nothing if they are the same.

    Attributes:
        changed: nodes that have to run again, as they or what leads to them is another.
        moved: by node, for each of its edges which one it was; None for one that is new.
    """

    changed: frozenset[str] = frozenset()
    moved: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)


class KeptNodes:
    """The nodes whose outcomes are taken over.

    A node that has completed or was skipped is kept if it does not come behind a node that is asked for, and if what
    made it run is kept as well: nodes before it, and the round of a loop around it.

    Args:
        old: the ended run.
        graph: of the new run's plan.
        asked: the nodes that are to run again, besides what has not finished.
        change: what differs between the plans.

    Attributes:
        barred: the asked ones, what has changed, and all behind them.
        kept: the kept ones.
        restarted: headers of loops that begin with their first round.
    """

    def __init__(self, old: EndedRun, graph: PlanGraph, asked: set[str], change: PlanChange) -> None:
        self.old = old
        self.graph = graph
        self.change = change
        self.barred = graph.after(asked | change.changed)
        self.kept = {node for node in graph.outs if old.letter(node) in FINISHED} - self.barred
        self.restarted: set[str] = set()
        self._exits: dict[str, list[PlanLink]] = {}
        self._sources: dict[str, list[str]] = {}  # of fallbacks and gathers
        for node in graph.outs:
            for link in graph.links(node):
                if link.kind == EXIT:
                    self._exits.setdefault(link.loop, []).append(link)
                if link.origin != EDGE:
                    self._sources.setdefault(link.target, []).append(node)
        self._reopened = {header for header in graph.loops if self._was_under_way(header)}
        for node in graph.outs:
            if node not in self.kept:
                self._reopened.update(graph.around(node))
        self._settle()

    def _was_under_way(self, header: str) -> bool:
        state = self.old.loop(header)
        return state is not None and (not state.closed or state.back > 0)

    def _settle(self) -> None:
        self._drop_unfounded(self.kept)
        while fresh := [header for header in self.graph.loops if self._begins_anew(header)]:
            self.restarted.update(fresh)
            dropped = {node for header in fresh for node in self.graph.loops[header].nodes} & self.kept
            for header in fresh:
                self.restarted.update(self.graph.loops[header].inner)
            self._drop_unfounded(self._drop(dropped))

    def _begins_anew(self, header: str) -> bool:
        if header in self.restarted or header in self.kept or self.old.loop(header) is None:
            return False
        return header in self.barred or self.old.letter(header) in FINISHED or not self.was_reached(header)

    def _drop_unfounded(self, suspects: set[str]) -> None:
        pending = deque(suspects)
        while pending:
            node = pending.popleft()
            if node in self.kept and not self._is_founded(node):
                pending += self._drop({node})

    def _drop(self, nodes: set[str]) -> set[str]:
        """Keep these nodes no more; returns which others may have to go for that."""
        self.kept -= nodes
        concerned: set[str] = set()
        for node in nodes:
            concerned.update(self._sources.get(node, ()))
            for link in self.graph.links(node):
                concerned.add(link.target)
                concerned.update(each.target for each in self.graph.implied[link.target])
            for header in self.graph.around(node):
                if header not in self._reopened:
                    self._reopened.add(header)
                    concerned.update(link.target for link in self._exits.get(header, ()))
        return concerned

    def continues(self, header: str) -> bool:
        """Whether a loop continues with the round that it was in."""
        return header in self._reopened and header not in self.restarted and self.old.loop(header) is not None

    def former(self, link: PlanLink) -> PlanLink | None:
        """The link as the old plan has it; None for a new edge."""
        moved = self.change.moved.get(link.source)
        if link.origin != EDGE or moved is None:
            return link if self.old.graph is self.graph else self._implied(link)
        index = moved[link.index]
        return None if index is None else self.old.graph.outs[link.source][index]

    def _implied(self, link: PlanLink) -> PlanLink | None:
        links = self.old.graph.links(link.source) if link.source in self.old.graph.outs else ()
        return next((each for each in links if (each.origin, each.index) == (link.origin, link.index)), None)

    def decision(self, link: PlanLink) -> str:
        """How the kept source of a link has decided it; u if it has not."""
        former = self.former(link)
        if former is None:
            return "d" if self.old.letter(link.source) == "S" else "t"  # a plain edge, see `plan_changes`
        mark = self.old.mark(former)
        if link.kind == EXIT and mark in ("d", "u"):
            return "u" if link.loop in self._reopened or mark == "u" else "d"
        return mark

    def _marks_into(self, node: str) -> list[str]:
        links = [link for link in self.graph.incoming[node] if link.kind != BACK]
        return [self.decision(link) if link.source in self.kept else self._mark_of_waiting(link) for link in links]

    def _mark_of_waiting(self, link: PlanLink) -> str:
        """A node that was cancelled just when its fallback was done goes on with what that returned."""
        source = link.source
        waited = link.origin == FALLBACK and self.old.attached(source)[:2] == ["fallback", link.target]
        return "t" if waited and self.old.letter(source) == "X" and self._goes_on(source) else "u"

    def _goes_on(self, node: str) -> bool:
        return node not in self.barred and self.was_reached(node)

    def was_reached(self, node: str) -> bool:
        """Whether kept nodes have made a node ready."""
        if node in self.graph.starts:
            return True
        marks = self._marks_into(node)
        if self.graph.joins[node] == "any":
            return any(mark in TAKEN for mark in marks)
        return "u" not in marks and "f" not in marks and any(mark in TAKEN for mark in marks)

    def _is_founded(self, node: str) -> bool:
        letter = self.old.letter(node)
        for link in self.graph.links(node):
            if link.origin == FALLBACK and letter == "K" and link.target not in self.kept:
                return False
            if link.origin == BATCH and letter == "C" and self.old.batch(node) is None and link.target not in self.kept:
                return False
            if link.origin == EDGE and not link.kind and self.decision(link) == "u":
                return False  # the run ended before it was recorded what follows
        if letter == "S":
            return node not in self.graph.starts and all(mark in ("d", "b") for mark in self._marks_into(node))
        return self.was_reached(node)
