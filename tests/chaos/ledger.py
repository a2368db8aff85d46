"""What handlers really did, written down outside Redis: one line for each begin and each end, appended in a single write."""

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "FLOWCRAFT_CHAOS_LEDGER"


class Place(NamedTuple):
    """What is executed: a node of a run in one turn of its loop, or one item of a batch."""

    run: str
    node: str
    turn: int


@dataclass(frozen=True)
class Execution:
    """One call of a handler. `at` is the wall clock in seconds, which all processes of a machine share."""

    place: Place
    attempt: int
    fencing_token: int
    pid: int
    at: float
    ended: bool = False


@dataclass
class LedgerReport:
    """A ledger as it was read: executions by place, in the order in which they began."""

    executions: dict[Place, list[Execution]] = field(default_factory=lambda: defaultdict(list))

    def at(self, run: str, node: str, turn: int = 0) -> list[Execution]:
        """The executions of one place."""
        return self.executions.get(Place(run, node, turn), [])

    def runs(self) -> set[str]:
        """All runs that a handler was called for."""
        return {place.run for place in self.executions}

    def begun(self) -> int:
        """How many handlers were called."""
        return sum(map(len, self.executions.values()))

    def again(self) -> int:
        """How many of them for a place and an attempt that had been begun before."""
        return sum(len(found) - len({one.attempt for one in found}) for found in self.executions.values())


def write(what: str, ctx: Any) -> None:
    """Note that a handler begins or ends. Several processes write at once, and any may be killed after it."""
    name = ctx.node_id if ctx.item is None else f"{ctx.node_id.partition('[')[0]}[{ctx.item}]"
    entry = [what, ctx.run_id, name, ctx.iteration, ctx.attempt, ctx.fencing_token, os.getpid(), time.time()]
    ledger = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(ledger)


def read(path: Path) -> LedgerReport:
    """What stands in a ledger."""
    reported = LedgerReport()
    ends = set()
    lines = path.read_text().splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines]
    for what, run, node, turn, _attempt, fencing_token, pid, _at in entries:
        if what == "end":
            ends.add((run, node, turn, fencing_token, pid))
    for what, run, node, turn, attempt, fencing_token, pid, at in entries:
        if what == "begin":
            ended = (run, node, turn, fencing_token, pid) in ends
            place = Place(run, node, turn)
            reported.executions[place].append(Execution(place, attempt, fencing_token, pid, at, ended))
    return reported
