"""What a random program is made of: a blueprint under construction, and what a run of it must come to.

Each construct adds its nodes behind a *tail*, returns the tail behind itself, and with it a function that says what a run
makes of a value. All of them count in `Seen` how often each node's handler has to be called. A construct ends in a node
whose output is its value.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Tail = dict[str, Any] | None
"""An edge that still has no target; None at the start of a blueprint."""
Seen = Counter[str]
Meaning = Callable[[Any, Seen], Any]
Built = tuple[Tail, Meaning]
ANSWER = 7
"""What every wait is answered with."""
ANY = {"joinStrategy": "any"}


def digest(label: str, value: Any) -> int:
    """What a node called `label` makes of its input."""
    return zlib.crc32(f"{label}|{json.dumps(value, sort_keys=True)}".encode()) % 100_000


@dataclass
class Deployment:
    """A blueprint and its subflows under construction. Ids are unique over all of them."""

    name: str
    finished: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0

    def sheet(self) -> "Sheet":
        """A blueprint to write on."""
        return Sheet(self)

    def new_id(self, kind: str) -> str:
        """An id that is not used yet."""
        self.count += 1
        return f"{kind}{self.count}"


@dataclass
class Sheet:
    """One blueprint under construction."""

    deployment: Deployment
    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)

    def node(self, kind: str, *tails: Tail, uses: str = "", **words: Any) -> str:
        """Add a node behind these tails; its id."""
        node_id = self.deployment.new_id(kind)
        self.nodes.append({"id": node_id, "uses": uses or kind, **words})
        for tail in tails:
            self.link(tail, node_id)
        return node_id

    def link(self, tail: Tail, target: str) -> None:
        """An edge from a tail to a node."""
        if tail is not None:
            self.edges.append({**tail, "target": target})

    def finish(self, name: str) -> None:
        """It is complete."""
        self.deployment.finished.append({"id": name, "nodes": self.nodes, "edges": self.edges})


def tail(source: str, **words: str) -> dict[str, Any]:
    """An edge from a node that has no target yet."""
    return {"source": source, **words}


def made(node: str) -> Meaning:
    """The meaning of a `step`: it is called, and makes a digest of its input."""

    def meaning(value: Any, seen: Seen) -> Any:
        seen[node] += 1
        return digest(node, value)

    return meaning
