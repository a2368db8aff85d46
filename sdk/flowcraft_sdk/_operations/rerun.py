"""Doing an ended run again, as a new run: from its beginning, or with what it has finished taken over."""

import difflib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from flowcraft_sdk._operations.deployment import Deployment, keys_of, partitions_of, plan_document, text
from flowcraft_sdk._operations.durability import confirm
from flowcraft_sdk._operations.effects import Operation, command
from flowcraft_sdk._operations.run_places import take_or_withdraw
from flowcraft_sdk._operations.start import blueprint_missing
from flowcraft_sdk._operations.tombstones import missing
from flowcraft_sdk.errors import (
    BlueprintNotFoundError,
    ConfigurationError,
    InvalidInputError,
    RerunRefusedError,
    RunBrokenError,
    RunConflictError,
    RunStateError,
)
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.bounds import LONGEST_PATH, check_text, shown
from flowcraft_sdk.protocol.context_input import (
    as_context,
    check_contract,
    check_run_id,
    digest,
    encoded,
    misspelt_inputs,
    new_run_id,
)
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.misfits import misfits_line
from flowcraft_sdk.protocol.partitions import root_of
from flowcraft_sdk.protocol.plan_changes import compare_plans
from flowcraft_sdk.protocol.plan_graph import PlanGraph, read_plan
from flowcraft_sdk.protocol.run_record import UNREADABLE, RunRecord
from flowcraft_sdk.protocol.take_over import NothingToRun, TakeOver, ValuesLost, take_over
from flowcraft_sdk.records import RunStatus

MOST_NODES = 10_000
"""Nodes that one call may ask for."""

BYTES_A_CALL, FIELDS_A_CALL = 500_000, 1000
"""What one call of a script carries of a record at most: Redis serves no other client while it runs one."""

MOST_TRIES = 3
"""Times that a rerun is sent whose draft was gone."""


class FailedNodes(Enum):
    """Stands for the nodes of a run that have not finished: see `FAILED`."""

    FAILED = "failed"


FAILED = FailedNodes.FAILED
"""For `rerun`: the nodes that failed, were cancelled or were never reached. All others keep their outcomes."""

FromNode = str | Iterable[str] | FailedNodes | None
Version = Literal["same", "current"]


@dataclass(frozen=True, slots=True)
class Rerun:
    """A run that does an ended one again.

    Attributes:
        attached: it was there already.
    """

    run_id: str
    attached: bool


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, checked."""

    nodes: tuple[str, ...]
    failed: bool
    version: str
    run_id: str | None
    on_conflict: str

    @property
    def is_whole(self) -> bool:
        return not self.nodes and not self.failed


@dataclass(frozen=True, slots=True)
class _Old:
    """The run that is done again: its hash, as bytes, and what can be read of it."""

    fields: Mapping[str, bytes]
    record: RunRecord


def rerun(
    deployment: Deployment,
    run_id: str,
    from_node: FromNode,
    ctx_patch: Any,
    version: str,
    new_id: str | None,
    on_conflict: str = "attach",
) -> Operation[Rerun]:
    """Do an ended run again.

    Raises:
        RunStateError: it has not ended, or FAILED is asked for and everything has finished.
        RerunRefusedError: it cannot be done from there.
    """
    order = checked_order(from_node, version, new_id, on_conflict)
    patch = as_context(ctx_patch)
    old = yield from _ended_run(deployment, run_id)
    plan = old.record.fields["plan"]
    blueprint_id = old.record.fields["bp"]
    if order.version == "current":
        found = yield command("HGET", deployment.keys.blueprints, blueprint_id)
        if found is None:
            yield from blueprint_missing(deployment, blueprint_id, None)
        plan = text(found)
    chosen = order.run_id or (yield from _id_beside(deployment, run_id))
    values = yield from _values(deployment, old.record, blueprint_id, plan, patch)
    if order.is_whole:
        return (yield from _start_again(deployment, old.record, chosen, plan, values, order.on_conflict))
    made = yield from _plan_of(deployment, old, plan, order, patch, values)
    return (yield from _send(deployment, old.record, chosen, plan, made, order, patch))


def again(deployment: Deployment, record: RunRecord, new_id: str) -> Operation[Rerun]:
    """Do a run again from its beginning, as it was started."""
    values = {key: raw.encode() for key, raw in record.start_context().items()}
    return (yield from _start_again(deployment, record, new_id, record.fields["plan"], values, "attach"))


def checked_order(from_node: FromNode, version: str, new_id: str | None, on_conflict: str) -> Order:
    """What is asked for.

    Raises:
        ConfigurationError: it cannot be.
    """
    if version not in ("same", "current"):
        raise ConfigurationError(f"version is 'same' or 'current', got {shown(version)}")
    if on_conflict not in ("attach", "raise"):
        raise ConfigurationError(f"on_conflict is 'attach' or 'raise', got {shown(on_conflict)}")
    chosen = None if new_id is None else check_run_id(new_id)
    if from_node is None or from_node is FAILED:
        return Order((), from_node is FAILED, version, chosen, on_conflict)
    given = [from_node] if isinstance(from_node, str) or not isinstance(from_node, Iterable) else from_node
    nodes: dict[str, None] = {}
    for node in given:
        nodes[check_text(node, "from_node", LONGEST_PATH)] = None
        if len(nodes) > MOST_NODES:
            raise ConfigurationError(f"from_node names {MOST_NODES:,} nodes at most")
    if not nodes:
        raise ConfigurationError("from_node names no node; leave it out to do the whole run again, or give FAILED")
    return Order(tuple(nodes), False, version, chosen, on_conflict)


def read_raw(keys: Keys, run_id: str) -> Operation[dict[str, bytes]]:
    """A run's whole hash, its values as they are; empty if there is no such run."""
    reply = yield command("HGETALL", keys.run(run_id))
    fields = {text(name): value if isinstance(value, bytes) else str(value).encode() for name, value in reply.items()}
    return fields if "st" in fields else {}


def _ended_run(deployment: Deployment, run_id: str) -> Operation[_Old]:
    keys = yield from keys_of(deployment, run_id)
    raw = yield from read_raw(keys, run_id)
    if not raw:
        yield from missing(keys.gone, run_id)
    fields = {name: text(value) for name, value in raw.items()}
    doc = yield from plan_document(deployment, fields.get("plan", ""))
    record = RunRecord(run_id, fields, doc)
    if not {"plan", "bp"} <= fields.keys():
        raise RunBrokenError(run_id, "one of its fields plan, bp is missing")
    if not record.status.is_terminal:
        status = record.status.value
        message = f"run {run_id} is {status}; it can be done again when it has ended, or was cancelled"
        raise RunStateError(run_id, status, message)
    if fields.get("pn"):
        root = root_of(run_id)
        raise RerunRefusedError(
            run_id,
            f"it is a child run of {fields['par']}: do {root} again, which takes over what its child runs have finished",
        )
    return _Old(raw, record)


def _id_beside(deployment: Deployment, run_id: str) -> Operation[str]:
    """A new id in the partition of the old run, so that what is taken over stays in one place."""
    partitions = yield from partitions_of(deployment)
    home = partitions.for_run(run_id)
    while partitions.for_run(chosen := new_run_id()) is not home:
        pass
    return chosen


def _values(
    deployment: Deployment, record: RunRecord, blueprint_id: str, plan: str, patch: Mapping[str, Any]
) -> Operation[dict[str, bytes]]:
    """The start context of the new run: that of the old one with the patch, checked against the plan's `inputs`."""
    start = {key: raw.encode() for key, raw in record.start_context().items()}
    if not patch and plan == record.fields["plan"]:
        return start
    changed = encoded(patch, deployment.max_value)
    doc = yield from plan_document(deployment, plan)
    contract, declared = (None, None) if doc is None else (doc.get("inputs"), doc.get("context"))
    if contract is None and declared is None:
        return start | changed
    values = {key: wire.loads(raw) for key, raw in start.items()} | dict(patch)
    filled = check_contract(blueprint_id, contract, values, declared)
    if misspelt := misspelt_inputs(contract or {}, [key for key in patch if key not in start], declared or ()):
        raise InvalidInputError(
            f"the context does not fit blueprint '{blueprint_id}': {misfits_line(misspelt)}", misspelt
        )
    added = {key: value for key, value in filled.items() if key not in start or key in patch}
    return start | encoded(added, deployment.max_value)


def _start_again(
    deployment: Deployment, record: RunRecord, new_id: str, plan: str, values: Mapping[str, bytes], on_conflict: str
) -> Operation[Rerun]:
    fields = record.fields
    keys = yield from keys_of(deployment, new_id)
    reply = yield scripts.start(
        keys,
        token=secrets.token_hex(8),
        run_id=new_id,
        blueprint_id=fields["bp"],
        version=plan,
        digest=digest(values),
        on_conflict=on_conflict,
        run_timeout_ms=record.time_limit_ms,
        tags_json=fields.get("tags", ""),
        memo_json=fields.get("memo", ""),
        forked_from=record.run_id,
        priority=fields.get("pr", ""),
        budget=fields.get("bg", ""),
        key=fields.get("key", ""),
        context=values,
    )
    if text(reply[0]) == "started" and text(reply[2]) == "reject":
        yield from take_or_withdraw(deployment, new_id, keys)
    return (yield from _answer(deployment, record, new_id, plan, reply))


def _answer(deployment: Deployment, record: RunRecord, new_id: str, plan: str, reply: Any) -> Operation[Rerun]:
    code = text(reply[0])
    if code == "conflict":
        raise RunConflictError(new_id, text(reply[1]))
    if code not in ("started", "attached"):
        raise BlueprintNotFoundError(record.fields["bp"], plan)
    yield from confirm(deployment, new_id, "the rerun")
    return Rerun(new_id, code == "attached")


def graph_of(deployment: Deployment, blueprint_id: str, plan: str) -> Operation[PlanGraph]:
    """The graph of a plan.

    Raises:
        BlueprintNotFoundError: the plan is gone.
    """
    reply = yield command("HGETALL", deployment.keys.plan(plan))
    fields = {text(name): text(value) for name, value in reply.items()}
    if "doc" not in fields:
        raise BlueprintNotFoundError(blueprint_id, plan)
    return read_plan(plan, fields)


def _plan_of(
    deployment: Deployment, old: _Old, plan: str, order: Order, patch: Mapping[str, Any], values: Mapping[str, bytes]
) -> Operation[TakeOver]:
    run_id, fields = old.record.run_id, old.record.fields
    graph = yield from graph_of(deployment, fields["bp"], fields["plan"])
    current = graph if plan == fields["plan"] else (yield from graph_of(deployment, fields["bp"], plan))
    for node in order.nodes:
        if node not in current.outs:
            raise RerunRefusedError(run_id, _why_not(node, fields, graph, current))
    try:
        made = take_over(
            old.fields,
            graph,
            asked=order.nodes,
            patch=encoded(patch, deployment.max_value),
            current=current,
            change=compare_plans(graph, current),
            version=order.version,
        )
    except NothingToRun:
        raise RunStateError(run_id, fields["st"], _nothing_to_run(old.record, order)) from None
    except ValuesLost as lost:
        raise RerunRefusedError(run_id, _lost(lost)) from None
    except UNREADABLE as error:
        raise RunBrokenError(run_id, f"{type(error).__name__}: {error}") from error
    for key, raw in values.items():  # inputs that the current version has and the old one had not
        if f"c:{key}" not in old.fields and f"u:{key}" not in old.fields:
            made.fields.setdefault(f"c:{key}", raw)
    return made


def _nothing_to_run(record: RunRecord, order: Order) -> str:
    if order.failed and record.status is RunStatus.FAILED:
        first = f"node '{record.fields['f1']}'" if record.fields.get("f1") else "what failed"
        return (
            f"run {record.run_id}: {first} failed in an earlier round of a loop, and each node has finished since: "
            "name the node to begin from"
        )
    if order.failed:
        return (
            f"run {record.run_id} has {record.status}, and each of its nodes has finished: name the node to begin from"
        )
    return f"run {record.run_id} did not come to {', '.join(order.nodes)}: name a node that has run"


def _lost(lost: ValuesLost) -> str:
    key, writers = next(iter(lost.keys.items()))
    by = "many nodes" if "*" in writers else " and ".join(f"'{node}'" for node in writers)
    more = f" (so is {', '.join(list(lost.keys)[1:6])})" if len(lost.keys) > 1 else ""
    return (
        f"the context key '{key}' was written by {by}, of which some run again, and what it was before is not kept{more}: "
        f"give it in ctx_patch, or begin from the first of them"
    )


def _why_not(node: str, fields: Mapping[str, str], graph: PlanGraph, current: PlanGraph) -> str:
    """Why a node cannot be begun from."""
    blueprint_id = fields["bp"]
    if node in graph.outs:
        return f"node '{node}' is no longer in the current version of blueprint '{blueprint_id}': version 'same' has it"
    if f"y:{node}" in fields:
        owner = json.loads(fields[f"y:{node}"])[5]["owner"]
        return f"node '{node}' was added by '{owner}' while the run was under way: name '{owner}'"
    owner = node.rpartition("[")[0]
    if node.endswith("]") and owner in graph.outs:
        return f"'{node}' is an item of '{owner}': name '{owner}'"
    first = node.partition("/")[0]
    if first != node and first in graph.outs:
        return f"'{node}' is in a child run: name '{first}', or begin from what failed (FAILED)"
    if node == "failed":
        return f"blueprint '{blueprint_id}' has no node 'failed'; to begin from what failed, give FAILED (`--failed`)"
    close = difflib.get_close_matches(node, list(current.outs), 1)
    return f"blueprint '{blueprint_id}' has no node '{node}'" + (f"; did you mean '{close[0]}'?" if close else "")


def _send(
    deployment: Deployment,
    record: RunRecord,
    new_id: str,
    plan: str,
    made: TakeOver,
    order: Order,
    patch: Mapping[str, Any],
) -> Operation[Rerun]:
    fields = record.fields
    asked = {"run": record.run_id, "nodes": order.nodes, "failed": order.failed, "plan": plan}
    asked_for = digest(
        {"asked": wire.dumps(asked)} | {f"c:{key}": raw for key, raw in encoded(patch, deployment.max_value).items()}
    )
    keys = yield from keys_of(deployment, new_id)
    source = yield from keys_of(deployment, record.run_id)
    for _ in range(MOST_TRIES):
        token = secrets.token_hex(8)
        drafted, last = yield from store_draft(keys, source, record.run_id, token, made)
        reply = yield scripts.rerun(
            keys,
            token=token,
            run_id=new_id,
            blueprint_id=fields["bp"],
            plan=plan,
            digest=asked_for,
            on_conflict=order.on_conflict,
            run_timeout_ms=record.time_limit_ms,
            tags_json=fields.get("tags", ""),
            memo_json=fields.get("memo", ""),
            forked_from=record.run_id,
            priority=fields.get("pr", ""),
            budget=fields.get("bg", ""),
            key=fields.get("key", ""),
            drafted=drafted,
            owners=made.batches,
            work_json=work_json(made),
            fields=last,
        )
        if text(reply[0]) != "no-draft":
            break
    return (yield from _answer(deployment, record, new_id, plan, reply))


def work_json(made: TakeOver) -> str:
    """The work items as the scripts take them: the last one is done first."""
    return json.dumps(made.work[::-1], ensure_ascii=False)


def store_draft(
    keys: Keys, source: Keys, run_id: str, token: str, made: TakeOver
) -> Operation[tuple[int, dict[str, bytes]]]:
    """Store what a single call cannot carry. How many fields of the record that were, and those that are left.

    Args:
        keys: of the partition of the new run.
        source: of that of the old one.
        run_id: the old run.
        token: of the call that is to follow.

    Raises:
        RunBrokenError: the results of a batch are gone.
    """
    *pieces, last = _pieces(made.fields)
    for piece in pieces:
        yield scripts.store_draft(keys, token=token, fields=piece)
    for owner in made.batches:
        cursor, stored = 0, 0
        while True:
            reply = yield command("HSCAN", source.batch(run_id, owner), cursor, "COUNT", FIELDS_A_CALL)
            cursor = int(reply[0])
            found = {text(name): value for name, value in _pairs(reply[1])}
            for piece in _pieces(found) if found else ():
                yield scripts.store_draft(keys, token=token, owner=owner, fields=piece)
            stored += len(found)
            if cursor == 0:
                break
        if not stored:
            raise RunBrokenError(run_id, f"the items of node '{owner}' are gone")
    return sum(map(len, pieces)), last


def _pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """Fields and values, in whichever form redis-py gives them."""
    return reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)


def _pieces(fields: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """The fields in pieces that one call can carry; at least one piece."""
    piece: dict[str, bytes] = {}
    size = 0
    for name, value in fields.items():
        if piece and (len(piece) >= FIELDS_A_CALL or size + len(value) > BYTES_A_CALL):
            yield piece
            piece, size = {}, 0
        piece[name] = value
        size += len(value)
    yield piece
