"""What the record of an ended run says of its nodes, edges and loops, for a run that does it again. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.protocol.plan_graph import BACK, BATCH, FALLBACK, PlanGraph, PlanLink

FINISHED = ("C", "K", "S")
"""States of nodes whose outcome is settled: completed, recovered by its fallback, skipped."""

CHUNK = 64
"""Edges in a chunk of a wide join, see include/joins.lua."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """How far a loop had come.

    Attributes:
        iteration: its latest, from 0.
        back: position of the back edge that was taken in it, 0 for none.
        closed: whether it had ended.
    """

    iteration: int
    back: int
    closed: bool


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch had come: items in all, opened and done ones."""

    total: int
    opened: int
    done: int


class EndedRun:
    """The record of an ended run.

    Args:
        fields: its hash.
        graph: of its plan.
    """

    def __init__(self, fields: Mapping[str, bytes], graph: PlanGraph) -> None:
        self.fields = fields
        self.graph = graph
        self.owners = dict(self._owners())
        self.items: dict[str, list[int]] = {}
        for name in fields:
            if name.startswith("n:") and name.endswith("]"):
                owner, _, number = name[2:-1].rpartition("[")
                self.items.setdefault(owner, []).append(int(number))

    def text(self, name: str) -> str:
        """A field as text, "" if it is absent."""
        return self.fields.get(name, b"").decode()

    def letter(self, instance_id: str) -> str:
        """The state of an instance, "" if it was never decided."""
        return self.text(f"n:{instance_id}")[:1]

    def claims(self, instance_id: str) -> int:
        """How often it was claimed."""
        parts = self.text(f"n:{instance_id}").split("|")
        if len(parts) < 4:
            return 1 if parts[0] == "C" else 0
        return int(parts[2])

    def began(self, instance_id: str) -> int:
        """When a failed or cancelled instance first began in its last round, in ms; 0 if it did not."""
        parts = self.text(f"n:{instance_id}").split("|")
        return int(self.text("cr")) + int(parts[4]) if len(parts) > 4 and parts[1] != "0" else 0

    def loop(self, header: str) -> LoopState | None:
        """The state of a loop, None if nothing in it was ever active."""
        raw = self.text(f"l:{header}")
        if not raw:
            return None
        iteration, _, back, closed = raw.split("|")
        return LoopState(int(iteration), int(back), bool(closed))

    def batch(self, owner: str) -> BatchState | None:
        """The state of the latest batch of a node."""
        raw = self.text(f"b:{owner}")
        if not raw:
            return None
        total, opened, done, _ = map(int, raw.split("|"))
        return BatchState(total, opened, done)

    def mark(self, link: PlanLink) -> str:
        """How a link was decided: t taken, d dead, f failed, b in another iteration, u not at all; as its source stands now."""
        source = self.letter(link.source)
        if link.origin == FALLBACK:
            return "t" if source == "K" else "d"
        if link.origin == BATCH:
            batch = self.batch(link.source)
            if source in "KS":
                return "t" if source == "K" else "d"
            if batch is None:  # a run that took its results over from another one
                return "t" if self.letter(link.target) in FINISHED else "u"
            return "t" if batch.done == batch.total else "u"
        if link.kind == BACK:
            state = self.loop(link.loop)
            return "t" if state is not None and state.back == link.position else "d"
        return self._recorded(link)

    def join_mark(self, link: PlanLink) -> str:
        """The mark that a join of several edges holds for a link."""
        if link.undecided.startswith("#"):
            chunk = self.text(f"J:{(link.position - 1) // CHUNK}:{link.target}")
            return chunk[(link.position - 1) % CHUNK] if chunk else "u"
        return (self.text(f"j:{link.target}") or link.undecided)[link.position - 1]

    def _recorded(self, link: PlanLink) -> str:
        if len(link.undecided) > 1:
            return self.join_mark(link)
        target = self.letter(link.target)
        if target in ("", "P"):
            return "u"
        return "d" if target == "S" else "t"

    def _owners(self) -> Iterator[tuple[str, str]]:
        """By dynamic node the one that added it."""
        for name, raw in self.fields.items():
            if name.startswith("y:"):
                yield name[2:], json.loads(raw)[5]["owner"]

    def root_owner(self, node: str) -> str:
        """The node of the graph that a dynamic node goes back to; any other node itself."""
        while node in self.owners:
            node = self.owners[node]
        return node

    def compensations(self) -> Iterator[tuple[str, str, str]]:
        """Completed executions that have a compensation, in order: number, mark (u: not compensated) and instance of each."""
        for number in range(1, int(self.text("cn") or 0) + 1):
            mark, _, instance = self.text(f"co:{number}").partition("|")
            yield str(number), mark, instance

    def attached(self, instance_id: str) -> list[Any]:
        """The outcome that was there of what a node waited for; empty if none was.

        Of a node that was cancelled while its fallback ran, that is what the fallback came to.
        """
        raw = self.fields.get(f"r:{instance_id}")
        if raw is not None:
            return list(json.loads(raw))
        for link in self.graph.implied.get(instance_id, ()):
            ran = link.origin == FALLBACK and self.letter(link.target) in ("C", "K") and self._recorded(link) == "t"
            if ran and self.letter(instance_id) == "X" and f"f:{instance_id}" in self.fields:
                return ["fallback", link.target, self.text(f"a:{link.target}")]
        return []

    def was_suspended(self, instance_id: str) -> bool:
        """Whether the handler of a node was to be called again once the nodes had ended that it has added."""
        return any(
            owner == instance_id and json.loads(self.fields[f"y:{name}"])[5].get("resumes")
            for name, owner in self.owners.items()
        )

    def failed_by_another(self, instance_id: str) -> bool:
        """Whether a node failed because of a node that it had added."""
        raw = self.fields.get(f"f:{instance_id}")
        return raw is not None and json.loads(raw).get("node", instance_id) != instance_id
