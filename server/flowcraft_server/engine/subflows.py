"""Subflows: a child run in its own right, and its outcome as the parent node's (blueprint semantics 2.13)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.context_input import fill_contract
from flowcraft_sdk.protocol.misfits import misfits_line
from flowcraft_sdk.protocol.paths import OWN, beginnings, walk
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.records import NodeFailure
from flowcraft_server.blueprints.compiling.plan import Plan
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.failures import InvalidNodeInput, SubflowFailed
from flowcraft_server.engine.plans import PlanCache
from flowcraft_server.engine.values import MISSING

SUBFLOW = "subflow"
"""The built-in kind of node that runs another blueprint."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a node says of the subflow that it calls, once or for each item of its batch.

    Attributes:
        blueprint_id: of the child; anything at all, as handlers may add such nodes.
        inputs: keys of the child's context, by name the path that each comes from.
        outputs: what the node returns, by name the path into the child.
        is_item: the call is of one item of a `map`: paths may read `item` and `index`, and nothing is written.
    """

    blueprint_id: Any
    inputs: Mapping[str, str] | None
    outputs: Mapping[str, str] | None
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


def start_child(engine: Engine, attempt: Attempt, plans: PlanCache) -> ScriptCall:
    """The call that starts the child run with its inputs.

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


def _call(engine: Engine, attempt: Attempt, called: Called, plan: Plan) -> ScriptCall:
    claim = attempt.claim
    return scripts.start_child(
        engine.partitions.for_run(claim.run_id),
        run_id=claim.run_id,
        instance_id=claim.instance_id,
        fencing_token=claim.fencing_token,
        blueprint_id=str(called.blueprint_id),
        plan_hash=plan.hash,
        max_depth=engine.max_depth,
        timeout_ms=attempt.node.node.config.timeout_ms or 0,
        context=_child_context(engine, attempt, called, plan),
    )


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
    wanted = [name for source in mapping.values() for key in beginnings(source) for name in (key, f"_outputs.{key}")]
    found = engine.read(attempt, list(dict.fromkeys(wanted)))
    context = {}
    for name, source in mapping.items():
        for key in beginnings(source):
            value = own[key] if key in own else found[key] if found[key] is not MISSING else found[f"_outputs.{key}"]
            if value is not MISSING:
                context[name] = walk(value, source[len(key) + 1 :])
                break
    return context


def _fitted(
    attempt: Attempt, plan: Plan, values: dict[str, Any], sources: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The values as the child's contract has them, its defaults filled in.

    Args:
        sources: the path that each value comes from, by the child's name for it.

    Raises:
        InvalidNodeInput: they do not fit it.
    """
    blueprint = plan.blueprint
    if blueprint.inputs_contract is None:
        return values
    filled, errors = fill_contract(blueprint.inputs_contract, values)
    if errors:
        for error in errors:
            source = (sources or {}).get(error["loc"][0])
            if source is not None and source != error["loc"][0]:
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
    plan, got = _child_values(engine, called, plans, child_id)
    if not called.outputs:
        return _own_result(plan, got)
    mapped = {name: _resolved(source, got) for name, source in _sources(called.outputs, plan).items()}
    if not called.is_item:
        for name, value in mapped.items():
            attempt.values.set(name, value)
    return next(iter(mapped.values())) if len(mapped) == 1 else mapped


def _sources(mapping: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """A mapping of a caller with the child's declared outputs, which come first, replaced by what they are made of."""
    declared = plan.blueprint.outputs or {}
    return {name: _without_declared(source, declared) for name, source in mapping.items()}


def _without_declared(source: str, declared: Mapping[str, str]) -> str:
    for key in beginnings(source):
        if key in declared:
            return declared[key] + source[len(key) :]
    return source


def _reads(mapping: Mapping[str, str]) -> list[str]:
    """The fields of a child that a mapping may need."""
    return [field for source in mapping.values() for key in beginnings(source) for field in _fields(key)]


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


def _read_child(engine: Engine, child_id: str, fields: Iterable[str]) -> tuple[str, dict[str, bytes | None]]:
    """The hash of a child's plan and some fields of the child, in one read.

    Raises:
        SubflowFailed: there is no such run any more.
    """
    wanted = list(dict.fromkeys(fields))
    plan_hash, *got = engine.link.read_fields(engine.run_key(child_id), ["plan", *wanted])
    if plan_hash is None:
        raise SubflowFailed(f"child run {child_id} is gone")
    return plan_hash.decode(), dict(zip(wanted, got, strict=True))


def _child_values(
    engine: Engine, called: Called, plans: PlanCache, child_id: str
) -> tuple[Plan, dict[str, bytes | None]]:
    """The plan of a child that has completed, and the fields of it that its outcome is made of."""
    # Its plan is most often the one that children of this blueprint get now: then one read does.
    plan = plans.last(str(called.blueprint_id))
    while True:
        fields: Iterable[str] = ()
        if plan is not None:
            fields = _fields_of_outcome(called, plan)
        plan_hash, got = _read_child(engine, child_id, fields)
        if plan is not None and plan.hash == plan_hash:
            return plan, got
        plan = plans.get(plan_hash)


def _fields_of_outcome(called: Called, plan: Plan) -> list[str]:
    if called.outputs:
        return _reads(_sources(called.outputs, plan))
    declared = plan.blueprint.outputs
    return _reads(declared) if declared is not None else [f"o:{node}" for node in plan.terminals]


def _own_result(plan: Plan, got: Mapping[str, bytes | None]) -> Any:
    """What a child returns by itself: the `outputs` that it declares, else what its last nodes return."""
    if plan.blueprint.outputs is not None:
        return {name: _resolved(source, got) for name, source in plan.blueprint.outputs.items()}
    outputs = {node: wire.loads(raw) for node in plan.terminals if (raw := got[f"o:{node}"]) is not None}
    return outputs.get(plan.terminals[0]) if len(plan.terminals) == 1 else outputs


def _failure(engine: Engine, attempt: Attempt, child_id: str, status: str) -> SubflowFailed:
    record = engine.run_key(child_id)
    first = engine.link.read_fields(record, ["f1", "cx"])
    blueprint_id = called_by(attempt).blueprint_id
    what = f"subflow '{blueprint_id}' (run {child_id}) {'was ' if status == 'cancelled' else ''}{status}"
    if first[0] is None:
        return SubflowFailed(what.replace("_", " "))
    inner = engine.link.read_fields(record, [f"f:{first[0].decode()}"])[0]
    details = None if inner is None else wire.loads(inner)
    cause = ""
    if isinstance(details, dict):
        failure = NodeFailure(node_id=details["node"], type=details["type"], message=details["message"])
        cause = f": node '{failure.node_id}': {failure.summary}"
    return SubflowFailed(what + cause, {"run_id": child_id, "failure": details})
