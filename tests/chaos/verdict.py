"""Compares what Redis says of the runs with what the ledger says: what was lost, stuck, recorded twice, or run again for no reason."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flowcraft_sdk import Handle, RunEvent, RunSnapshot
from tests.chaos import ledger
from tests.chaos.deployment import Death, Deployment
from tests.chaos.flows import FLOWS

RECORDED = ("node_completed", "node_recovered")
HANDLER_NODES = re.compile(r"^(?!again$|nap$|child$|each$)")
"""Nodes that a handler runs: the others are built-in kinds."""


@dataclass
class Verdict:
    """What became of a number of runs.

    Attributes:
        lost: runs that ended otherwise than they must, or that have an output or a record too few.
        stuck: runs that did not end.
        twice: completions that are recorded more than once.
        unexplained: executions that no take-over, retry or hand-back explains.
        hanging: what the doctor found.
        takeovers: seconds from a worker's death until the store took it note, for each node it held.
        resumed: seconds from a worker's death until another one claimed the node.
    """

    runs: int = 0
    nodes: int = 0
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    takeovers: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)

    def is_clean(self) -> bool:
        """Whether nothing was lost, stuck, doubled or unexplained."""
        return not (self.lost or self.stuck or self.twice or self.unexplained or self.hanging)

    def faults(self) -> str:
        """All faults, a line each."""
        names = ("lost", "stuck", "twice", "unexplained", "hanging")
        kinds: dict[str, list[str]] = {name: getattr(self, name) for name in names}
        return "\n".join(f"{kind}: {what}" for kind, found in kinds.items() for what in found)


def judge(
    deployment: Deployment, started: Mapping[str, tuple[str, int]], patience: float, deaths: Iterable[Death] = ()
) -> Verdict:
    """Wait for runs and look them over, their child runs too.

    Args:
        started: run id -> flow and start value.
        patience: seconds after which runs that have not ended are stuck.
        deaths: of workers, to measure take-overs by.
    """
    verdict = Verdict(runs=len(started))
    until = time.monotonic() + patience
    for run_id in started:
        handle = deployment.client.get_handle(run_id)
        try:
            handle.wait(timeout=max(0.05, until - time.monotonic()))
        except TimeoutError:
            verdict.stuck.append(f"{run_id}: {started[run_id]}, {handle.status()}")
    seen = deployment.read_ledger()
    died = {death.worker: death.at for death in deaths if death.worker}
    for run_id, (flow, x) in started.items():
        _judge_run(verdict, deployment, seen, deployment.client.get_handle(run_id), flow, x, died)
    for run_id in seen.runs() - set(started):
        if run_id.partition("~")[0] not in started:  # neither one of them nor a child of one
            continue
        snapshot = deployment.client.get_handle(run_id).describe(ctx=True)
        x = int((snapshot.ctx or {}).get("x", 0))
        _judge_run(verdict, deployment, seen, deployment.client.get_handle(run_id), snapshot.blueprint_id, x, died)
    return verdict


def _judge_run(
    verdict: Verdict,
    deployment: Deployment,
    reported: ledger.LedgerReport,
    handle: Handle[object],
    flow: str,
    x: int,
    died: Mapping[str, float],
) -> None:
    snapshot = handle.describe(ctx=True)
    if snapshot.status.is_terminal:
        events = judge_record(verdict, handle, snapshot, flow, x)
        if snapshot.status == "completed":
            _compare_with_ledger(verdict, deployment, reported, handle.run_id, events)
            _measure_takeovers(verdict, events, died)


def judge_record(verdict: Verdict, handle: Handle[object], snapshot: RunSnapshot, flow: str, x: int) -> list[RunEvent]:
    """Look a run over that has ended: its results, and that each node is recorded once; returns its history."""
    run, expected = handle.run_id, FLOWS[flow]
    if snapshot.status != "completed":
        verdict.lost.append(f"{run}: {flow} {snapshot.status}: {[failure.message for failure in snapshot.failures]}")
        return []
    context = snapshot.ctx or {}
    for key, value in expected.results(x).items():
        if context.get(key) != value:
            verdict.lost.append(f"{run}: {flow} {key} is {context.get(key)!r}, not {value!r}")
    events = list(handle.events(follow=False))
    completed = Counter(event.node_id or "" for event in events if event.type in RECORDED)
    verdict.nodes += len(completed)
    verdict.twice += [f"{run}: {name}, {times} times" for name, times in completed.items() if times > 1]
    for name in expected.recorded(x) ^ set(completed):
        verdict.lost.append(f"{run}: {flow} {name} is {'recorded' if name in completed else 'not recorded'}")
    if sum(event.type == "run_ended" for event in events) != 1:
        verdict.twice.append(f"{run}: its end")
    return events


def _compare_with_ledger(
    verdict: Verdict, deployment: Deployment, reported: ledger.LedgerReport, run: str, events: list[RunEvent]
) -> None:
    """Each recorded node was executed to its end, and more often than its attempts only where a worker was lost."""
    claimed: Counter[str] = Counter()
    taken_over: Counter[str] = Counter()
    for event in events:
        claimed[event.node_id or ""] += event.type == "node_started"
        taken_over[event.node_id or ""] += event.type == "node_taken_over"
    for name in {event.node_id or "" for event in events if event.type in RECORDED}:
        node, _, turn = name.partition("#")
        executions = reported.at(run, node, int(turn or 0))
        if HANDLER_NODES.match(node) and not any(execution.ended for execution in executions):
            verdict.lost.append(f"{run}: {name} is recorded, and never came to its end")
        again = len(executions) - len({execution.attempt for execution in executions})
        handed_back = (
            deployment.hostile > 0
        )  # by a loop or thread that ended under it: no take-over says so, the claims do
        if (again > taken_over[name] and not handed_back) or len(executions) > max(1, claimed[name]):
            verdict.unexplained.append(f"{run}: {name}, {len(executions)} executions, {claimed[name]} claims")
        if len({execution.fencing_token for execution in executions}) != len(executions):
            verdict.unexplained.append(f"{run}: {name}, a fencing token is used twice")


def _measure_takeovers(verdict: Verdict, events: list[RunEvent], died: Mapping[str, float]) -> None:
    holder: dict[str, str] = {}
    waiting: dict[str, float] = defaultdict(float)
    for event in events:
        name = event.node_id or ""
        if event.type == "node_started":
            holder[name] = event.data["worker"]
            if name in waiting:
                verdict.resumed.append(event.at.timestamp() - waiting.pop(name))
        elif event.type == "node_taken_over" and holder.get(name) in died:
            waiting[name] = died[holder[name]]
            verdict.takeovers.append(event.at.timestamp() - waiting[name])
