"""Nodes that handlers add to their run: their definitions go into the run, and come from there when they are claimed."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.node import DynamicNode, NonRetryableError
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.sources import Source, all_keys, is_source
from flowcraft_server.blueprints.compiling import plan_records
from flowcraft_server.blueprints.compiling.input_fields import source_fields
from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.blueprints.linting.builtin_nodes import check_builtins
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.sizes import MOST_NAMES
from flowcraft_server.blueprints.loading.node_settings import LIMIT_NAME, QUEUE_NAME
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Node
from flowcraft_server.blueprints.routes import queue_of, queue_of_items
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.engine import Engine

_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_KEYS = {"id", "uses", "params", "inputs", "config"}


class InvalidDynamicNode(NonRetryableError):
    """A handler returned a dynamic node that cannot be added to its run."""


def expand(
    engine: Engine,
    attempt: Attempt,
    output: Any,
    action: str | None,
    added: tuple[Any, ...],
    *,
    suspended: bool = False,
) -> ScriptCall:
    """The call that adds nodes to the run and parks the node that returned them until they are done.

    Args:
        suspended: its handler is called again then, and has put out nothing yet.

    Raises:
        InvalidDynamicNode: one of them is no proper node, or two share an id.
        SerializationError: the output or a definition cannot be stored.
    """
    claim = attempt.claim
    if claim.item is not None:
        raise InvalidDynamicNode(
            f"an item of a batch cannot add nodes, and '{claim.instance_id}' returned {len(added)}"
        )
    if len(added) > engine.max_nodes:
        most = f"a run has no more than {engine.max_nodes} dynamic nodes (limits.dynamicNodes)"
        raise InvalidDynamicNode(f"node '{claim.instance_id}' returned {len(added)}; {most}")
    nodes = [_node(engine, claim.instance_id, each) for each in added]
    counts = Counter(node.id for node in nodes)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise InvalidDynamicNode(f"node '{claim.instance_id}' returned two dynamic nodes '{twice}'")
    return scripts.expand(
        engine.partitions.for_run(claim.run_id),
        run_id=claim.run_id,
        instance_id=claim.instance_id,
        fencing_token=claim.fencing_token,
        action=action or "",
        output=b"" if suspended else engine.encode_output(attempt, output),
        limit=engine.max_nodes,
        input_json=engine.fallback_input(attempt),
        writes=tuple(attempt.values.writes.items()),
        deletes=tuple(attempt.values.deletes),
        nodes=[(node.id, _entry(engine, attempt, node, suspended), _definition(engine, node)) for node in nodes],
    )


def _node(engine: Engine, owner: str, added: Any) -> Node:
    if isinstance(added, DynamicNode):
        plain: Any = {key: getattr(added, key) for key in _KEYS}
    elif isinstance(added, Mapping):
        plain = added
    else:
        plain = None
    # Written and read once: nothing is left of it that has code of its own, which might never end.
    plain = wire.loads(wire.dumps(plain, path=f"dynamic node of '{owner}'", limit=engine.max_value))
    if not isinstance(plain, dict) or not {"id", "uses"} <= plain.keys() <= _KEYS:
        raise InvalidDynamicNode(
            f"node '{owner}' returned a dynamic node that is neither a DynamicNode nor an object of {', '.join(sorted(_KEYS))}"
        )
    if not isinstance(plain["id"], str) or not _ID.fullmatch(plain["id"]):
        raise InvalidDynamicNode(
            f"node '{owner}' returned a dynamic node with the id {plain['id']!r}: letters, digits, _ and - only"
        )
    if not isinstance(plain["uses"], str) or not plain["uses"]:
        raise InvalidDynamicNode(f"dynamic node '{plain['id']}' of '{owner}' needs `uses`, the name of a handler")
    for name, kind in (("params", Mapping), ("config", Mapping), ("inputs", str | Mapping)):
        value = plain.get(name)
        if value is not None and not isinstance(value, kind):
            what = "an object" if kind is Mapping else "a name, or an object of names"
            raise InvalidDynamicNode(f"dynamic node '{plain['id']}' of '{owner}': {name} is {what}, got {value!r:.80}")
    if isinstance(plain.get("inputs"), Mapping) and not all(map(is_source, plain["inputs"].values())):
        raise InvalidDynamicNode(f"dynamic node '{plain['id']}' of '{owner}': inputs is an object of names")
    try:
        node = Node.from_plain(plain)
        read = len(all_keys([*_sources(node), *node.config.expressions]))  # raises if an expression cannot be read
        if read > MOST_NAMES:
            raise ValueError(f"its inputs read {read:,} names: those of a node read {MOST_NAMES:,} at most")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidDynamicNode(f"dynamic node '{plain['id']}' of '{owner}': {error}") from error
    queue = node.config.queue
    if queue is not None and not (isinstance(queue, str) and QUEUE_NAME.fullmatch(queue)):
        raise InvalidDynamicNode(
            f"dynamic node '{node.id}' of '{owner}': {queue!r} is no name for a queue; use 1 to 64 letters, digits, - _ and ."
        )
    if node.config.limit is not None and not LIMIT_NAME.fullmatch(str(node.config.limit)):
        raise InvalidDynamicNode(f"dynamic node '{node.id}' of '{owner}': {node.config.limit!r} is no name for a limit")
    if node.config.fallback is not None:
        raise InvalidDynamicNode(
            f"dynamic node '{node.id}' of '{owner}' has a fallback; only nodes of the blueprint can have one"
        )
    if node.config.compensate is not None:
        raise InvalidDynamicNode(
            f"dynamic node '{node.id}' of '{owner}' has a compensation; only nodes of the blueprint can have one"
        )
    if node.config.on_parent_cancel is not None and node.uses not in BUILTIN_USES:
        raise InvalidDynamicNode(
            f"dynamic node '{node.id}' of '{owner}' has onParentCancel, but starts no child run: it uses '{node.uses}'"
        )
    if node.uses in BUILTIN_USES:
        findings = Findings(Blueprint(id="dynamic", nodes=(node,), edges=()), None, {}, {})
        check_builtins(findings)
        wrong = next((diagnostic for diagnostic in findings.diagnostics if diagnostic.severity == "error"), None)
        if wrong is not None:
            raise InvalidDynamicNode(f"dynamic node '{node.id}' of '{owner}': {wrong.message}")
    return node


def _reads(plan: Plan, node: Node) -> list[str]:
    return list(dict.fromkeys(f for source in _sources(node) for f in source_fields(plan.blueprint_nodes, source)))


def _sources(node: Node) -> list[Source]:
    if node.inputs is None:
        return []
    return [node.inputs] if isinstance(node.inputs, str) else list(node.inputs.values())


def _entry(engine: Engine, attempt: Attempt, node: Node, suspended: bool) -> str:
    """The node's plan entry, see include/plan.lua: no edges, and the owner's output as what it is brought."""
    options: dict[str, Any] = {"owner": attempt.claim.instance_id}
    if suspended:
        options["resumes"] = 1
    if attempt.node.loops:
        options["loops"] = attempt.node.loops
    if attempt.node.closing:
        options["closing"] = "f"
    if node.inputs is not None:
        options["inputs"] = 1
    if node.config.on_item_error == "collect":
        options["collect"] = 1
    if node.config.on_parent_cancel == "abandon":
        options["abandons"] = 1
    items, queue = queue_of_items(node, engine.routes), queue_of(node, engine.routes)
    if items is not None:
        options["itemQueue"] = items
    brought = [f"o:{attempt.claim.instance_id}"]
    return json.dumps(plan_records.entry("all", brought, [], _reads(attempt.plan, node), queue, options))


def _definition(engine: Engine, node: Node) -> bytes:
    return wire.dumps(node.to_plain(), path=f"dynamic node '{node.id}'", limit=engine.max_value)


def plan_node(engine: Engine, claim: Claim, plan: Plan) -> PlanNode:
    """A claimed dynamic node as a worker runs it, from its definition in the run.

    Raises:
        LookupError: the run has no such node.
    """
    raw, entry = engine.link.read_fields(engine.run_key(claim.run_id), [f"z:{claim.node_id}", f"y:{claim.node_id}"])
    if raw is None or entry is None:
        raise LookupError(f"run {claim.run_id} has no node '{claim.node_id}'")
    node = Node.from_plain(wire.loads(raw))
    stored = json.loads(entry)
    options = plan_records.options_of(stored)
    return PlanNode(
        node=node,
        edges=(),
        reads=tuple(stored[plan_records.READS]),
        incoming=((options["owner"], "dynamic", 0),),
        context_keys=(),
        whole_context=False,
        condition=None,
        loops=tuple(options.get("loops", ())),
        fallback_of=(),
        gathers=None,
        transform_sources={},
        terminal=False,
        closing="closing" in options,
    )
