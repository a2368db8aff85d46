"""The node kinds that the engine itself runs: no handler is called for them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.expressions import truthy
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_server.blueprints.compiling.loops import LOOP_CONTROLLER
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.engine import CLOSING_WAIT_MS, Engine
from flowcraft_server.engine.failures import InvalidNodeInput, LoopLimitExceeded, NodeTimeout
from flowcraft_server.engine.from_data import check_wait, duration_param, moment_param
from flowcraft_server.engine.outcome import Done, Outcome, Parked
from flowcraft_server.engine.routing import Scope, context_object
from flowcraft_server.engine.subflows import SUBFLOW, run_subflow
from flowcraft_server.engine.values import MISSING
from flowcraft_server.engine.webhooks import own_key

MAX_ITERATIONS = 10_000
LIVE_ITEMS = 256
ITEMS_A_CALL = 500


Builtin = Callable[[Engine, Attempt, Any], Outcome]


def check_iterations(attempt: Attempt, *, another_round: bool = False) -> None:
    """Stop a loop that goes round without end.

    Args:
        another_round: a loop-controller has decided for one; the round of any other header begins with itself.

    Raises:
        LoopLimitExceeded: `maxIterations` rounds are over, and this would be one more.
    """
    claim = attempt.claim
    if not attempt.node.loops or attempt.node.loops[-1] != claim.node_id:
        return
    if attempt.node.node.uses == LOOP_CONTROLLER and not another_round:
        return
    limit = attempt.node.node.params.get("maxIterations")
    limit = MAX_ITERATIONS if limit is None else limit
    if claim.iteration >= limit:
        raise LoopLimitExceeded(f"loop '{claim.node_id}' went round {limit} times (maxIterations)")


def _loop_controller(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    condition = attempt.node.condition
    if condition is None:
        raise InvalidNodeInput(f"loop-controller '{attempt.claim.node_id}' needs params.condition, an expression")

    def get(key: str) -> Any:
        return engine.read(attempt, [key])[key]

    scope = Scope(None, None, attempt.input, get, lambda: engine.whole_context(attempt))
    names: dict[str, Any] = {}
    for name in condition.names:
        value = context_object(condition, scope) if name == "context" else get(name)
        if value is MISSING and name == "input":
            value = attempt.input
        if value is not MISSING:
            names[name] = value
    if not truthy(condition.evaluate(names)):
        return Done(None, "break")
    check_iterations(attempt, another_round=True)
    return Done(None, "continue")


def _store_items(engine: Engine, attempt: Attempt) -> None:
    """Store the batch's items beside the run, a bounded slice a call; the commit that follows opens them.

    Raises:
        InvalidNodeInput: the input is no list. For `map`, null and what is missing are none unless `params.allowMissing` says so;
            `batch-scatter` takes them for no items, as the original does.
    """
    items = attempt.input
    if items is None:
        declared = attempt.node.node.inputs
        what = f"'{declared}'" if isinstance(declared, str) else "its input"
        if attempt.node.node.uses == "map" and attempt.params.get("allowMissing") is not True:
            raise InvalidNodeInput(
                f"node '{attempt.claim.node_id}' works on a list, and {what} is missing or null; "
                "params.allowMissing: true takes that for an empty list"
            )
        items = []
    if not isinstance(items, list):
        kind = type(items).__name__
        raise InvalidNodeInput(f"node '{attempt.claim.node_id}' scatters a list; its input is of type {kind}")
    claim = attempt.claim
    limit = attempt.params.get("chunkSize") or attempt.params.get("maxLive") or LIVE_ITEMS
    encoded = [wire.dumps(item, path=f"item {i}", limit=engine.max_value) for i, item in enumerate(items)]
    for first in range(0, max(1, len(encoded)), ITEMS_A_CALL):
        part = encoded[first : first + ITEMS_A_CALL]
        reply = engine.link.call_with_retry(
            scripts.store_items(
                engine.partitions.for_run(claim.run_id),
                run_id=claim.run_id,
                instance_id=claim.instance_id,
                fencing_token=claim.fencing_token,
                total=len(encoded),
                limit=limit,
                first=first,
                items=part,
            )
        )
        if reply[0] != b"ok":
            return


def _scatter(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    _store_items(engine, attempt)
    return Done({"gatherNodeId": attempt.params.get("gatherNodeId"), "hasMore": False})


def gathered(engine: Engine, attempt: Attempt, owner: str) -> list[Any]:
    """The results of a batch in the order of its items, read a page at a time."""
    run_id = attempt.claim.run_id
    record = engine.link.read_fields(engine.run_key(run_id), [f"b:{owner}"])[0]
    total = int(record.split(b"|")[0]) if record else 0
    results: list[Any] = []
    for first in range(0, total, ITEMS_A_CALL):
        fields = [f"r:{i}" for i in range(first, min(total, first + ITEMS_A_CALL))]
        page = engine.link.read_fields(engine.partitions.for_run(run_id).batch(run_id, owner), fields)
        results += [None if raw is None else wire.loads(raw) for raw in page]
    return results


def _gather(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    if attempt.node.gathers is None:
        raise InvalidNodeInput(f"no batch-scatter names '{attempt.claim.node_id}' as its params.gatherNodeId")
    results = gathered(engine, attempt, attempt.node.gathers)
    key = attempt.params.get("outputKey")
    if isinstance(key, str) and key != attempt.claim.node_id:
        attempt.values.set(key, results)
    return Done(results)


def _map(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    if attempt.claim.attached is not None:
        results = gathered(engine, attempt, attempt.claim.node_id)
        key = attempt.params.get("outputKey")
        if isinstance(key, str):
            attempt.values.set(key, results)
        return Done(results)
    _store_items(engine, attempt)
    needed = attempt.input if attempt.node.node.config.fallback is not None else None
    return Parked(_park(engine, attempt, "batch", details=needed))


def _sleep(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    if attempt.claim.attached is not None:
        return Done(attempt.input)
    due = _due(engine, attempt, ("duration", "for"))
    if due is None:
        raise InvalidNodeInput(
            f"sleep '{attempt.claim.node_id}' needs params.duration, such as 30s or 5m, or params.until, a time"
        )
    return Parked(_park(engine, attempt, "timer", due, {"duration": due}))


def _wait(engine: Engine, attempt: Attempt, plans: Any) -> Outcome:
    attached = attempt.claim.attached
    if attached is None:
        details = {name: attempt.params[name] for name in ("prompt", "schema", "actions") if name in attempt.params}
        kind = "webhook" if attempt.node.node.uses == "webhook" else "signal"
        if kind == "webhook" and (secret := engine.webhook_secret()) is not None:
            details["key"] = own_key(attempt).signed(secret)
        due = _due(engine, attempt, ("timeout",))
        if due is None and attempt.node.closing:
            due = CLOSING_WAIT_MS
        return Parked(_park(engine, attempt, kind, due, details))
    if attached[0] == "timer":
        action = attempt.params.get("onTimeout")
        if isinstance(action, str):
            return Done(None, action)
        limit = "until" if attempt.params.get("until") is not None else "timeout"
        raise NodeTimeout(f"no signal came for '{attempt.claim.node_id}' within params.{limit}")
    raw = engine.link.read_fields(engine.run_key(attempt.claim.run_id), [f"v:{attempt.claim.instance_id}"])[0]
    return Done(None if raw is None else wire.loads(raw), attached[1] or None)


def _due(engine: Engine, attempt: Attempt, durations: tuple[str, ...]) -> int | None:
    """In how many ms what the node waits for is over: by a parameter that is a duration, or by `until`; None if neither is set.

    A time that has passed is over at once.
    """
    key = engine.run_key(attempt.claim.run_id)
    for name in durations:
        if (found := duration_param(engine.link, key, attempt, name)) is not None:
            return found
    moment = moment_param(engine.link, key, attempt, "until")
    if moment is None:
        return None
    return check_wait(attempt, "until", max(0, math.ceil((moment.timestamp() - engine.store_seconds()) * 1000)))


def _park(engine: Engine, attempt: Attempt, kind: str, due: int | None = None, details: Any = None) -> ScriptCall:
    claim = attempt.claim
    attempt.due = None if due is None else due / 1000
    return scripts.park(
        engine.partitions.for_run(claim.run_id), run_id=claim.run_id, instance_id=claim.instance_id,
        fencing_token=claim.fencing_token, kind=kind, due_ms=due,
        details=wire.dumps(details),
    )  # fmt: skip


def caught(engine: Engine, attempt: Attempt) -> Done:
    """The outcome of a node whose fallback has run: the fallback's output and action stand for its own."""
    assert attempt.claim.attached is not None
    _, fallback, action = attempt.claim.attached
    fields = [f"s:{fallback}", f"o:{fallback}"]  # the fallback may have had one itself
    instead, own = engine.link.read_fields(engine.run_key(attempt.claim.run_id), fields)
    raw = own if instead is None else instead
    return Done(None if raw is None else wire.loads(raw), action or None, caught=True)


def expanded(engine: Engine, attempt: Attempt) -> Done:
    """The outcome of a node whose dynamic nodes are done: what its handler returned with them."""
    assert attempt.claim.attached is not None
    raw = engine.link.read_fields(engine.run_key(attempt.claim.run_id), [f"o:{attempt.claim.instance_id}"])[0]
    return Done(None if raw is None else wire.loads(raw), attempt.claim.attached[1] or None)


BUILTINS: Mapping[str, Builtin] = {
    SUBFLOW: run_subflow,
    LOOP_CONTROLLER: _loop_controller,
    "batch-scatter": _scatter,
    "batch-gather": _gather,
    "map": _map,
    "sleep": _sleep,
    "wait": _wait,
    "webhook": _wait,
}

MADE_OF_OTHERS: Mapping[str, Callable[[Engine, Attempt], Outcome]] = {"fallback": caught, "dynamic": expanded}
"""Outcomes of nodes that other nodes have finished, by what is attached to the claim."""
