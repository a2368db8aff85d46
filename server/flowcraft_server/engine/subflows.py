"""Subflows: a child run in its own right, and its outcome as the parent node's (blueprint semantics 2.13)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.claim_request import ClaimRequest
from flowcraft_sdk.protocol.context_input import declared_misfits, fill_contract
from flowcraft_sdk.protocol.misfits import misfits_line
from flowcraft_sdk.protocol.paths import OWN, beginnings, walk
from flowcraft_sdk.protocol.run_record import UNREADABLE
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.sources import Source, all_keys, is_expression, value_of
from flowcraft_server.blueprints.compiling.plan import Plan
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.continued_children import FormerChild, draft_of, read_former_child, work_left
from flowcraft_server.engine.engine import CLOSING_WAIT_MS, Engine
from flowcraft_server.engine.failures import InvalidNodeInput, SubflowFailed
from flowcraft_server.engine.outcome import Done, Outcome, Parked
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.run_failures import first_failure
from flowcraft_server.engine.values import MISSING

SUBFLOW = "subflow"
"""The built-in kind of node that runs another blueprint."""

Start = Callable[[ClaimRequest], ScriptCall]
"""Makes the call that starts a child run, and may bring a node that it begins with."""


STOPPING_PAUSE = 0.2
"""Seconds between two looks at a child of the former run that still stops."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a node says of the subflow that it calls, once or for each item of its batch.

    Attributes:
        blueprint_id: of the child; anything at all, as handlers may add such nodes.
        inputs: keys of the child's context, by name the source that each comes from.
        outputs: what the node returns, by name the source, over what is in the child.
        is_item: the call is of one item of a `map`: paths may read `item` and `index`, and nothing is written.
    """

    blueprint_id: Any
    inputs: Mapping[str, Source] | None
    outputs: Mapping[str, Source] | None
    is_item: bool

    @property
    def key(self) -> str:
        """The param that names the blueprint."""
        return "call" if self.is_item else "blueprintId"


def called_by(attempt: Attempt) -> Called:
    """The call that an attempt at a subflow, or at an item of a `map` of subflows, makes."""
    is_item = attempt.claim.item is not None
    params = attempt.node.node.params if is_item else attempt.params
    return Called(
        params.get("call" if is_item else "blueprintId"), params.get("inputs"), params.get("outputs"), is_item
    )


def run_subflow(engine: Engine, attempt: Attempt, plans: PlanCache) -> Outcome:
    """What a node that runs a blueprint comes to: the start of its child run, or that run's outcome.

    In a run that does another one again, the former run's child may have finished what this node asks for, or part of it.
    """
    if attempt.claim.attached is not None:
        _, child_id, status = attempt.claim.attached
        return Done(child_outcome(engine, attempt, plans, child_id, status))
    former = _former_child(engine, attempt, plans)
    if former is not None and former.is_ending:
        return Parked(_later(engine, attempt))
    outcome = None if former is None else _continued(engine, attempt, plans, former)
    if outcome is not None:
        return outcome
    return Parked(start_child(engine, attempt, plans))


def _continued(engine: Engine, attempt: Attempt, plans: PlanCache, former: FormerChild) -> Outcome | None:
    """What the node comes to, given the former run's child; None if the new child begins from its beginning."""
    try:
        left = work_left(former)
    except UNREADABLE:
        return None
    if left is None and former.has_completed:
        return Done(child_outcome(engine, attempt, plans, former.run_id, "completed"))
    draft = None if left is None else draft_of(engine, former, left, attempt.claim.run_id)
    return None if draft is None else Parked(_call(engine, attempt, called_by(attempt), former.plan, draft))


def _later(engine: Engine, attempt: Attempt) -> ScriptCall:
    """The call that hands the node back for a moment."""
    claim = attempt.claim
    attempt.due = STOPPING_PAUSE
    return scripts.release(
        engine.partitions.for_run(claim.run_id),
        run_id=claim.run_id,
        instance_id=claim.instance_id,
        fencing_token=claim.fencing_token,
        delay_ms=int(STOPPING_PAUSE * 1000),
    )


def start_child(engine: Engine, attempt: Attempt, plans: PlanCache) -> Start:
    """Makes the call that starts the child run with its inputs.

    It is made for the plan that is known here; the script refuses it if another one is current.

    Raises:
        InvalidNodeInput: no blueprint is named, it is not published, or what it is given does not fit its `inputs`.
    """
    claim, called = attempt.claim, called_by(attempt)
    blueprint_id = called.blueprint_id
    if not isinstance(blueprint_id, str | int) or isinstance(blueprint_id, bool):
        raise InvalidNodeInput(f"node '{claim.node_id}' needs params.{called.key}, the id of a blueprint")
    known = plans.last(str(blueprint_id))
    if known is not None:
        try:
            return _call(engine, attempt, called, known)
        except InvalidNodeInput:
            pass  # it may fit what has been published since
    plan = plans.current(str(blueprint_id))
    if plan is None:
        raise InvalidNodeInput(f"subflow '{claim.node_id}': no blueprint '{blueprint_id}' is published")
    return _call(engine, attempt, called, plan)


def _former_child(engine: Engine, attempt: Attempt, plans: PlanCache) -> FormerChild | None:
    """The child run that this node's child takes over from; None if there is none, or it was started with another context."""
    called = called_by(attempt)
    former = read_former_child(engine, plans, attempt.former_child or "", str(called.blueprint_id))
    try:
        if former is not None and former.was_given(_child_context(engine, attempt, called, former.plan)):
            return former
    except InvalidNodeInput:
        pass
    return None


def _call(
    engine: Engine, attempt: Attempt, called: Called, plan: Plan, draft: scripts.ChildDraft | None = None
) -> Start:
    """Makes the call that starts a child run of this plan; `draft`: what it takes over of another one."""
    claim = attempt.claim
    return partial(
        scripts.start_child,
        engine.partitions.for_run(claim.run_id),
        run_id=claim.run_id,
        instance_id=claim.instance_id,
        fencing_token=claim.fencing_token,
        blueprint_id=str(called.blueprint_id),
        plan_hash=plan.hash,
        max_depth=engine.max_depth,
        timeout_ms=_timeout_ms(attempt),
        trace="" if attempt.span is None else attempt.span.traceparent,
        ask=attempt.former_child is None,
        draft=draft,
        context={} if draft is not None else _child_context(engine, attempt, called, plan),
    )


def _timeout_ms(attempt: Attempt) -> int:
    """How long the child may take, 0 for as long as it wants: as its node says; of what a run closes with a day at most."""
    config = attempt.node.node.config
    if config.timeout_from is not None and attempt.timeout is not None:
        return max(1, round(attempt.timeout * 1000))
    return config.timeout_ms or (CLOSING_WAIT_MS if attempt.node.closing else 0)


def _child_context(engine: Engine, attempt: Attempt, called: Called, plan: Plan) -> dict[str, bytes]:
    """The mapped keys; without a mapping, the node's input as the input of each of the child's start nodes.

    An item that is an object gives its keys besides to a child that declares `inputs`.
    """
    if called.inputs:
        return _encoded(engine, attempt, _fitted(attempt, plan, _mapped(engine, attempt, called), called.inputs))
    encoded = wire.dumps(attempt.input, path=f"input of node '{attempt.claim.instance_id}'", limit=engine.max_value)
    brought = {f"_inputs.{node}": encoded for node in plan.starts}
    keys: dict[str, Any] = {}
    if called.is_item and plan.blueprint.inputs_contract is not None and isinstance(attempt.input, Mapping):
        keys = {name: attempt.input[name] for name in plan.blueprint.inputs_contract if name in attempt.input}
    return brought | _encoded(engine, attempt, _fitted(attempt, plan, keys))


def _mapped(engine: Engine, attempt: Attempt, called: Called) -> dict[str, Any]:
    mapping = called.inputs or {}
    own = {"item": attempt.input, "index": attempt.claim.item} if called.is_item else {}
    paths = all_keys(mapping.values())
    wanted = [name for path in paths for key in beginnings(path) for name in (key, f"_outputs.{key}")]
    found = engine.read(attempt, list(dict.fromkeys(wanted)))

    def resolve(path: str) -> Any:
        for key in beginnings(path):
            value = own[key] if key in own else found[key] if found[key] is not MISSING else found[f"_outputs.{key}"]
            if value is not MISSING:
                return walk(value, path[len(key) + 1 :], MISSING)
        return MISSING

    context = {}
    for name, source in mapping.items():
        if isinstance(source, str) and not is_expression(source):
            value = resolve(source)
        else:
            value = value_of(source, lambda key: None if (got := resolve(key)) is MISSING else got)
        if value is not MISSING:
            context[name] = value
    return context


def _fitted(
    attempt: Attempt, plan: Plan, values: dict[str, Any], sources: Mapping[str, Source] | None = None
) -> dict[str, Any]:
    """The values as the child's contract has them, its defaults filled in.

    Args:
        sources: the path that each value comes from, by the child's name for it.

    Raises:
        InvalidNodeInput: they do not fit it.
    """
    blueprint = plan.blueprint
    if blueprint.inputs_contract is None and blueprint.context_keys is None:
        return values
    contract = blueprint.inputs_contract or {}
    filled, errors = fill_contract(contract, values)
    errors += declared_misfits(blueprint.context_keys or {}, values, contract)
    if errors:
        for error in errors:
            source = (sources or {}).get(error["loc"][0])
            if isinstance(source, str) and source != error["loc"][0]:
                error["msg"] += f" (from '{source}')"
        what = f"subflow '{attempt.claim.instance_id}' does not fit the inputs of blueprint '{blueprint.id}'"
        details = {"blueprint_id": blueprint.id, "errors": errors}
        raise InvalidNodeInput(f"{what}: {misfits_line(errors)}", details)
    return filled


def _encoded(engine: Engine, attempt: Attempt, values: Mapping[str, Any]) -> dict[str, bytes]:
    instance_id, limit = attempt.claim.instance_id, engine.max_value
    return {name: wire.dumps(value, path=f"{instance_id}.inputs.{name}", limit=limit) for name, value in values.items()}


def child_outcome(engine: Engine, attempt: Attempt, plans: PlanCache, child_id: str, status: str) -> Any:
    """The node's output once its child has ended; with `outputs`, the mapped keys are written to the parent's context.

    Raises:
        SubflowFailed: the child did not complete.
    """
    if status != "completed":
        raise _failure(engine, attempt, child_id, status)
    called = called_by(attempt)
    plan, got = _child_values(engine, attempt, called, plans, child_id)
    if not called.outputs:
        return _own_result(plan, got)
    mapped = {name: _value(source, plan, got) for name, source in called.outputs.items()}
    if not called.is_item:
        for name, value in mapped.items():
            attempt.values.set(name, value)
    return next(iter(mapped.values())) if len(mapped) == 1 else mapped


def _declared_in(path: str, plan: Plan) -> tuple[Source, str] | None:
    """The child's declared output that a path of a caller begins with, and the path into it; these come first."""
    declared = plan.blueprint.outputs or {}
    return next(((declared[key], path[len(key) + 1 :]) for key in beginnings(path) if key in declared), None)


def _value(source: Source, plan: Plan, got: Mapping[str, bytes | None]) -> Any:
    """What a source of a caller reads in a child, of which `got` are the fields."""

    def resolve(path: str) -> Any:
        declared = _declared_in(path, plan)
        if declared is None:
            return _resolved(path, got)
        made_of, rest = declared
        if isinstance(made_of, str) and not is_expression(made_of):
            return _resolved(f"{made_of}.{rest}" if rest else made_of, got)
        return walk(_own_value(made_of, got), rest)

    return value_of(source, resolve)


def _own_value(source: Source, got: Mapping[str, bytes | None]) -> Any:
    return value_of(source, lambda path: _resolved(path, got))


def _reads(mapping: Mapping[str, Source], plan: Plan) -> list[str]:
    """The fields of a child that a mapping of a caller may need."""
    found: list[str] = []
    for path in all_keys(mapping.values()):
        declared = _declared_in(path, plan)
        if declared is None:
            found += _path_reads(path)
            continue
        made_of, rest = declared
        whole = isinstance(made_of, str) and not is_expression(made_of) and rest
        found += _path_reads(f"{made_of}.{rest}") if whole else _own_reads({path: made_of})
    return found


def _own_reads(mapping: Mapping[str, Source]) -> list[str]:
    """The fields of a child that a mapping of its own may need."""
    return [field for path in all_keys(mapping.values()) for field in _path_reads(path)]


def _path_reads(path: str) -> list[str]:
    return [field for key in beginnings(path) for field in _fields(key)]


def _resolved(source: str, got: Mapping[str, bytes | None]) -> Any:
    """What a path reads in a child, of which `got` are the fields."""
    for key in beginnings(source):
        raw = next((got[field] for field in _fields(key) if got[field] is not None), None)
        if raw is not None:
            return walk(wire.loads(raw), source[len(key) + 1 :])
    return None


def _fields(key: str) -> tuple[str, ...]:
    """Where a child keeps what a name stands for: of a node whose fallback stood in, the fallback's output comes first."""
    for prefix in (OWN, "_outputs."):
        if key.startswith(prefix):
            return (f"o:{key[len(prefix) :]}",)
    return (f"s:{key}", f"o:{key}", f"c:{key}")


def _read_child(
    engine: Engine, attempt: Attempt, child_id: str, fields: Iterable[str]
) -> tuple[str, dict[str, bytes | None]]:
    """The hash of a child's plan and some fields of the child, in one read; in none, if this process has just written them.

    Raises:
        SubflowFailed: there is no such run any more.
    """
    wanted = list(dict.fromkeys(fields))
    last = attempt.child_end
    if last is not None and wanted == [last.field]:
        return last.plan_hash, {last.field: last.output}
    plan_hash, *got = engine.link.read_fields(engine.run_key(child_id), ["plan", *wanted])
    if plan_hash is None:
        raise SubflowFailed(f"child run {child_id} is gone")
    return plan_hash.decode(), dict(zip(wanted, got, strict=True))


def _child_values(
    engine: Engine, attempt: Attempt, called: Called, plans: PlanCache, child_id: str
) -> tuple[Plan, dict[str, bytes | None]]:
    """The plan of a child that has completed, and the fields of it that its outcome is made of."""
    # Its plan is most often the one that children of this blueprint get now: then one read does.
    plan = plans.last(str(called.blueprint_id))
    while True:
        fields: Iterable[str] = ()
        if plan is not None:
            fields = _fields_of_outcome(called, plan)
        plan_hash, got = _read_child(engine, attempt, child_id, fields)
        if plan is not None and plan.hash == plan_hash:
            return plan, got
        plan = plans.get(plan_hash)


def _fields_of_outcome(called: Called, plan: Plan) -> list[str]:
    if called.outputs:
        return _reads(called.outputs, plan)
    declared = plan.blueprint.outputs
    return _own_reads(declared) if declared is not None else [f"o:{node}" for node in plan.terminals]


def _own_result(plan: Plan, got: Mapping[str, bytes | None]) -> Any:
    """What a child returns by itself: the `outputs` that it declares, else what its last nodes return."""
    if plan.blueprint.outputs is not None:
        return {name: _own_value(source, got) for name, source in plan.blueprint.outputs.items()}
    outputs = {node: wire.loads(raw) for node in plan.terminals if (raw := got[f"o:{node}"]) is not None}
    return outputs.get(plan.terminals[0]) if len(plan.terminals) == 1 else outputs


def _failure(engine: Engine, attempt: Attempt, child_id: str, status: str) -> SubflowFailed:
    failure, details = first_failure(engine.link.read_fields, engine.run_key(child_id))
    blueprint_id = called_by(attempt).blueprint_id
    what = f"subflow '{blueprint_id}' (run {child_id}) {'was ' if status == 'cancelled' else ''}{status}"
    if failure is None and details is None:
        return SubflowFailed(what.replace("_", " "))
    cause = "" if failure is None else f": node '{failure.node_id}': {failure.summary}"
    return SubflowFailed(what + cause, {"run_id": child_id, "failure": details})
