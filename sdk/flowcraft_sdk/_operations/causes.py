"""Why nodes that are ready are not run: no worker is there for them, none has their handler, or a limit is held by others."""

from collections.abc import Mapping

from flowcraft_sdk._operations.deployment import Deployment, partitions_of, plan_document, record, server_ms, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.list_runs import workers
from flowcraft_sdk._operations.queues import phrase_of, with_causes
from flowcraft_sdk._operations.run_places import with_place
from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.protocol.node_kinds import handler_of
from flowcraft_sdk.records import Defect, NodeSnapshot, NodeStatus, RunSnapshot, RunStatus, WorkerInfo

SHOWN = 3
"""Nodes that hold a limit which an explanation names."""

WAITS = "waits-for-limit"


def with_reasons(
    deployment: Deployment, snapshot: RunSnapshot, added: Mapping[str, str | None]
) -> Operation[RunSnapshot]:
    """The picture of a run, with what keeps its nodes, or itself, from being run.

    Args:
        added: the handlers that nodes need which were added while the run went.
    """
    snapshot = yield from with_causes(deployment, snapshot)
    snapshot = yield from with_place(deployment, snapshot)
    waiting = {name: node for name, node in snapshot.nodes.items() if node.blocked_by is None and _is_unclaimed(node)}
    if waiting:
        serving = yield from workers(deployment)
        doc = (yield from plan_document(deployment, snapshot.blueprint_version)) or {}
        handlers = {str(node["id"]): handler_of(node) for node in doc.get("nodes", ())} | {**added}
        causes = {name: _cause(node, handlers.get(name.partition("[")[0]), serving) for name, node in waiting.items()}
        nodes = {
            name: node.model_copy(update={"blocked_by": causes[name]}) if causes.get(name) else node
            for name, node in snapshot.nodes.items()
        }
        snapshot = snapshot.model_copy(update={"nodes": nodes})
    if snapshot.status is RunStatus.QUEUED and snapshot.blocked_by is None:
        reasons = [f"node '{name}': {node.blocked_by}" for name, node in snapshot.nodes.items() if node.blocked_by]
        if reasons:
            snapshot = snapshot.model_copy(update={"blocked_by": reasons[0]})
    return snapshot


def _is_unclaimed(node: NodeSnapshot) -> bool:
    """Whether it is ready, or was handed back by a worker that could not run it."""
    return node.status is NodeStatus.READY or (node.status is NodeStatus.RETRYING and node.attempts == 0)


def _cause(node: NodeSnapshot, handler: str | None, serving: list[WorkerInfo]) -> str | None:
    if not serving:
        return "no worker is running"
    able = [worker for worker in serving if node.queue is None or node.queue in worker.queues]
    if not able:
        return f"no worker serves queue '{node.queue}'"
    if handler is not None and all(worker.handlers is not None and handler not in worker.handlers for worker in able):
        return f"no worker has the handler '{handler}'"
    return None


def examine_waits(deployment: Deployment, run_id: str) -> Operation[list[Defect]]:
    """What a run, or its nodes, wait for because of limits, and which hold them."""
    try:
        snapshot = (yield from record(deployment, run_id)).snapshot()
    except RunBrokenError:
        return []  # the doctor has found that already, field by field
    if snapshot.status.is_terminal:
        return []
    snapshot = yield from with_place(deployment, (yield from with_causes(deployment, snapshot)))
    found = []
    if snapshot.blocked_by is not None:
        explanation = f"it waits to begin: {snapshot.blocked_by}"
        found.append(Defect(kind=WAITS, run_id=run_id, subject=snapshot.blueprint_id, explanation=explanation))
    for name, node in snapshot.nodes.items():
        if node.limit is not None and node.blocked_by == phrase_of(node.limit):
            held = yield from _holders(deployment, node.limit)
            explanation = f"node '{name}' waits for {node.blocked_by}{held}"
            found.append(Defect(kind=WAITS, run_id=run_id, subject=name, explanation=explanation))
        elif node.status is NodeStatus.WAITING and node.waiting_for == "model" and node.blocked_by is not None:
            kept = yield from _kept_back(deployment, node.blocked_by.partition("'")[2][:-1])
            explanation = f"node '{name}' is parked until there is room in {node.blocked_by}{kept}"
            found.append(Defect(kind=WAITS, run_id=run_id, subject=name, explanation=explanation))
    return found


def _kept_back(deployment: Deployment, model: str) -> Operation[str]:
    """How many calls wait for the limits of a model, and how many are under way, in words."""
    home = deployment.keys
    reads = [
        command("ZCARD", home.calls(model)),
        command("ZCARD", home.parked(model)),
        command("ZCARD", home.underway(model)),
        command("HGET", home.pace(model), "until"),
    ]
    waiting, parked, running, until = yield Batch(tuple(reads))
    now = yield from server_ms(deployment)
    seconds = (float(until or 0) - now) / 1000
    closed = f"; its provider wants no calls for {seconds:.0f} s" if seconds >= 1 else ""
    return f": {int(waiting) + int(parked)} calls wait, {running} are under way{closed}"


def _holders(deployment: Deployment, limit: str) -> Operation[str]:
    """The nodes that hold a limit, in words."""
    every = (yield from partitions_of(deployment)).all
    reads = [
        read
        for keys in every
        for read in (command("ZCARD", keys.slots(limit)), command("ZRANGE", keys.slots(limit), 0, SHOWN - 1))
    ]
    replies = yield Batch(tuple(reads), bearing=True)
    count = sum(reply for reply in replies[::2] if isinstance(reply, int))
    entries = [text(entry) for reply in replies[1::2] if isinstance(reply, list) for entry in reply][:SHOWN]
    if not entries:
        return ", of which no node holds a slot: its rate allows no more yet"
    names = ", ".join(f"node '{node}' of run {run_id}" for run_id, _, node in (each.partition("|") for each in entries))
    return f", which is held by {names}" + (f" and {count - len(entries)} more" if count > len(entries) else "")
