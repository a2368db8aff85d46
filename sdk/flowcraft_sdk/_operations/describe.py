"""A picture of a run, and of what its child runs wait for."""

from collections.abc import Iterable

from flowcraft_sdk._operations.causes import with_reasons
from flowcraft_sdk._operations.deployment import Deployment, keys_of, record
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.steps import with_steps
from flowcraft_sdk.errors import RunBrokenError, RunNotFoundError
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_sdk.records import RunSnapshot, WaitPoint

MOST_RUNS = 200
"""Child runs that are looked at for what they wait for."""


def describe(deployment: Deployment, run_id: str, ctx: bool, outputs: bool) -> Operation[RunSnapshot]:
    """A picture of a run; what its child runs wait for is read after it."""
    found = yield from record(deployment, run_id)
    snapshot = yield from with_reasons(deployment, found.snapshot(ctx=ctx, outputs=outputs), found.handlers_of_added())
    if "steps" in found.fields and not snapshot.status.is_terminal:
        snapshot = yield from with_steps(deployment, snapshot)
    if not snapshot.waiting:  # as with all that have ended
        return snapshot
    points = yield from _with_children(deployment, run_id, snapshot.waiting)
    keys = yield from keys_of(deployment, run_id)
    timers = tuple(command("ZSCORE", keys.timers, timer) for timer, _ in points)
    ends = yield Batch(timers)
    waiting = tuple(
        point if end is None else point.model_copy(update={"expires_at": moment(float(end))})
        for (_, point), end in zip(points, ends, strict=True)
    )
    return snapshot.model_copy(update={"waiting": waiting})


def _with_children(
    deployment: Deployment, run_id: str, own: Iterable[WaitPoint]
) -> Operation[list[tuple[str, WaitPoint]]]:
    """What the run waits for, and then what its child runs do, named by the way to it; each with its timer."""
    points: list[tuple[str, WaitPoint]] = []
    pending, looked_at = [(run_id, "", tuple(own))], 0
    while pending:
        owner, way, waiting = pending.pop(0)
        for point in waiting:
            path = way + point.node_id
            points.append((f"W|{owner}|{point.node_id}", point.model_copy(update={"node_id": path})))
            child_id = point.child_run_id
            if child_id is None or looked_at >= MOST_RUNS:
                continue
            looked_at += 1
            try:
                waiting_below = (yield from record(deployment, child_id)).snapshot().waiting
            except (RunNotFoundError, RunBrokenError):
                continue
            pending.append((child_id, f"{path}/", waiting_below))
    return points
