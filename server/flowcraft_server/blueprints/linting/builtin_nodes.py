"""Params of the node kinds that the engine runs itself."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowcraft_sdk.protocol.payload_schema import unusable, unusable_pattern
from flowcraft_sdk.protocol.sources import is_expression, is_source
from flowcraft_server.blueprints.durations import moment_of, parse_duration_ms
from flowcraft_server.blueprints.graph import gather_of
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.handed_types import check_list_input
from flowcraft_server.blueprints.linting.sizes import MOST_NESTED
from flowcraft_server.blueprints.linting.sources import DURATION_PARAMS, MOMENT
from flowcraft_server.blueprints.loading.keys import belongs_under_config
from flowcraft_server.blueprints.model import BUILTIN_USES, Node
from flowcraft_server.blueprints.quoting import cut, quoted
from flowcraft_server.blueprints.suggestions import did_you_mean, nearest

Check = Callable[[Any], str]
"""What is wrong with a value, or nothing."""


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value else f"expected a text, got {quoted(value)}"


def _expression(value: Any) -> str:
    return "" if isinstance(value, str) else f"expected an expression, a text; got {quoted(value)}: put it in quotes"


def _mapping(value: Any) -> str:
    return "" if isinstance(value, Mapping) else f"expected a mapping, got {quoted(value)}"


def schema_problem(value: Any) -> str:
    """What is wrong with a JSON Schema; empty if nothing is."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(value, Mapping):
        return _mapping(value)
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        return f"is no JSON Schema: {cut(unusable(error))}"
    except RecursionError:
        return "is nested too deeply"
    return unusable_pattern(value) or ""


_A_SOURCE = "expected the path of a value; a fixed value is written {value: ...}, an expression begins with ="


def _names(value: Any) -> str:
    good = isinstance(value, Mapping) and all(map(is_source, value.values()))
    return "" if good else f"expected a mapping of names to keys, got {quoted(value)}"


def _texts(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)
    return "" if good else f"expected a list of texts, got {quoted(value)}; put true, false and numbers in quotes"


def _count(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000
    return "" if good else f"expected a whole number from 1 to 1000000, got {quoted(value)}"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"expected true or false, got {quoted(value)}"


def _duration(value: Any) -> str:
    if is_expression(value):  # checked with the others
        return ""
    try:
        parse_duration_ms(value)
    except ValueError as error:
        return str(error)
    return ""


def _moment(value: Any) -> str:
    if is_expression(value):
        return ""
    try:
        moment_of(value)
    except ValueError as error:
        return str(error)
    return ""


def _anything(value: Any) -> str:
    return ""


_WAIT: Mapping[str, Check] = {
    "prompt": _anything,
    "schema": schema_problem,
    "actions": _texts,
    "timeout": _duration,
    "until": _moment,
    "onTimeout": _text,
}
PARAMS: Mapping[str, Mapping[str, Check]] = {
    "subflow": {"blueprintId": _text, "inputs": _names, "outputs": _names},
    "loop-controller": {"condition": _expression, "maxIterations": _count},
    "batch-scatter": {
        "workerUsesKey": _text, "gatherNodeId": _text, "chunkSize": _count, "maxLive": _count, "params": _mapping,
    },
    "batch-gather": {"gatherNodeId": _text, "outputKey": _text},
    "map": {"uses": _text, "call": _text, "inputs": _names, "outputs": _names,
            "params": _mapping, "outputKey": _text, "chunkSize": _count, "maxLive": _count,
            "allowMissing": _flag},
    "sleep": {"duration": _duration, "for": _duration, "until": _moment},
    "wait": _WAIT,
    "webhook": _WAIT,
}  # fmt: skip
_NEEDED = {
    "subflow": {"blueprintId": "the id of a blueprint"},
    "loop-controller": {"condition": "an expression; the loop goes on while it holds"},
    "batch-scatter": {
        "workerUsesKey": "the handler that runs for each item",
        "gatherNodeId": "the id of the batch-gather node that collects the results",
    },
}


_TIME = ("seconds", "minutes", "hours", "milliseconds", "ms", "delay", "time", "interval", "countdown", "wait")
_ANSWERS = {
    **dict.fromkeys((*_TIME, "duration", "for", "deadline"), "timeout"),
    **dict.fromkeys(("message", "question", "text"), "prompt"),
    **dict.fromkeys(("options", "choices", "answers"), "actions"),
}
_WORDS_OF_OTHERS: Mapping[str, Mapping[str, str]] = {
    "sleep": {**dict.fromkeys((*_TIME, "timeout"), "duration"), "date": "until", "at": "until"},
    "wait": _ANSWERS,
    "webhook": _ANSWERS,
    "subflow": dict.fromkeys(("workflow", "workflowId", "call", "id", "flow", "uses"), "blueprintId"),
    "map": {
        **dict.fromkeys(("handler", "task", "function", "activity"), "uses"),
        **dict.fromkeys(("workflow", "blueprintId", "subflow"), "call"),
    },
    "loop-controller": {
        **dict.fromkeys(("max", "limit", "times", "iterations"), "maxIterations"),
        **dict.fromkeys(("while", "if", "when"), "condition"),
    },
}
"""What one may call our params, by kind and word; none of them looks like the param that is meant."""


def check_builtins(findings: Findings) -> None:
    """Check the params of built-in kinds, and that batches fit together."""
    _check_iterations(findings)
    collected: dict[str, str] = {}  # by gather, the first node whose results it collects
    for node in findings.graph.nodes.values():
        if (gather := gather_of(node)) is not None:
            collected.setdefault(gather, node.id)
    astray = any(gather not in findings.graph.nodes for gather in _gathers(findings))
    for node in findings.graph.nodes.values():
        if node.uses in BUILTIN_USES:
            _check_params(findings, node)
        if node.uses == "batch-gather" and findings.blueprint.complete:
            _check_gather(findings, node, astray)
        if node.uses == "batch-scatter":
            _check_scatter(findings, node, collected)
        if node.uses in ("wait", "webhook"):
            _check_timeout(findings, node)
        if node.uses in DURATION_PARAMS:
            _check_end(findings, node)
        batch = node.uses in ("batch-scatter", "map")
        if batch:
            check_list_input(findings, node)
        if node.config.on_item_error is not None and not batch:
            message = "says something about the items of a batch; this node has none"
            findings.warning(node_path(node, "config", "onItemError"), message)
        if node.config.on_parent_cancel is not None:
            _check_parent_cancel(findings, node)
        if node.uses in ("wait", "webhook", "sleep") and node.config.timeout_ms is not None:
            instead = "its params.duration says how long it takes" if node.uses == "sleep" else "params.timeout ends it"
            findings.warning(node_path(node, "config", "timeout"), f"does nothing for a '{node.uses}': {instead}")


def _check_parent_cancel(findings: Findings, node: Node) -> None:
    path = node_path(node, "config", "onParentCancel")
    if node.uses != "subflow" and not (node.uses == "map" and node.params.get("call") is not None):
        findings.error(path, "says what becomes of a child run; only a subflow, or a 'map' with 'call', starts one")
    elif node.config.on_parent_cancel == "abandon" and node.config.compensate is not None:
        message = f"'{node.config.compensate}' undoes what has completed before the run stops, not what goes on then"
        findings.warning(path, message)


def _check_params(findings: Findings, node: Node) -> None:
    known = PARAMS[node.uses]
    for name, what in _NEEDED.get(node.uses, {}).items():
        if node.params.get(name) is None:
            findings.lacks(node_path(node, "params", name), f"'{node.uses}' needs it: {what}", name)
    if node.uses == "map":
        _check_items(findings, node)
    for name, value in node.params.items():
        path = node_path(node, "params", name)
        if name not in known:
            _unknown(findings, node, name, known)
        elif known[name] is _names and isinstance(value, Mapping):
            for key, source in value.items():
                if not is_source(source):
                    findings.error((*path, key), f"{_A_SOURCE}; got {quoted(source)}")
        elif value is not None and (wrong := known[name](value)):
            findings.error(path, wrong)


def _check_items(findings: Findings, node: Node) -> None:
    """The items of a `map` are run by a handler or by a blueprint."""
    if isinstance(node.inputs, Mapping):
        findings.error(node_path(node, "inputs"), "a map works on one list: name its source, as in `inputs: orders`")
    uses, call = node.params.get("uses"), node.params.get("call")
    if uses is None and call is None:
        what = "the handler that runs for each item, or 'call' the blueprint"
        findings.lacks(node_path(node, "params", "uses"), f"'map' needs it: {what}", "uses", "call")
    if uses is not None and call is not None:
        findings.error(
            node_path(node, "params", "call"), "'call' and 'uses' do not go together: each item is run by one of them"
        )
    for name in ("inputs", "outputs") if call is None else ("params",):
        if name in node.params and _is_written(findings, node, name):
            other = "'call'" if call is None else "'uses'"
            findings.error(
                node_path(node, "params", name),
                f"goes with {other}: a handler gets the item and its params"
                if call is None
                else f"goes with {other}: a blueprint is given `inputs`",
                key=True,
            )


def _unknown(findings: Findings, node: Node, name: str, known: Mapping[str, Check]) -> None:
    path = node_path(node, "params", name)
    if name.startswith("x-"):
        return
    if (meant := _WORDS_OF_OTHERS.get(node.uses, {}).get(name)) is not None:
        shape = " It takes a unit, such as 30s or 5m" if name in _TIME and meant in ("duration", "timeout") else ""
        findings.error(path, f"'{node.uses}' has no such param; did you mean '{meant}'?{shape}", key=True)
    elif nearest(name, known) is not None:
        findings.error(path, f"'{node.uses}' has no such param{did_you_mean(name, known)}", key=True)
    else:
        misplaced = belongs_under_config(name)
        findings.warning(path, f"'{node.uses}' has no such param{misplaced or '; it is ignored'}", key=True)


def _check_iterations(findings: Findings) -> None:
    """The header of a loop may be any node; its `maxIterations` bounds the loop."""
    bounded = [node for node in findings.graph.nodes.values() if node.params.get("maxIterations") is not None]
    headers = findings.graph.loops(deepest=MOST_NESTED + 1).loops if bounded else {}
    for node in bounded:
        if node.uses not in BUILTIN_USES and node.id in headers and (wrong := _count(node.params["maxIterations"])):
            findings.error(node_path(node, "params", "maxIterations"), wrong)


def _check_scatter(findings: Findings, node: Node, collected: Mapping[str, str]) -> None:
    gather = node.params.get("gatherNodeId")
    path = node_path(node, "params", "gatherNodeId")
    if not isinstance(gather, str) or not gather:
        return
    if gather not in findings.graph.nodes and not findings.blueprint.nodes_known:
        return
    if gather not in findings.graph.nodes:
        findings.error(path, f"no node '{gather}'{findings.meant(gather, findings.graph.nodes)}")
        return
    uses = findings.graph.nodes[gather].uses
    if uses and uses != "batch-gather":
        findings.error(path, f"'{gather}' uses '{uses}'; results are collected by a node that uses 'batch-gather'")
        return
    first = collected[gather]
    if first != node.id:
        findings.error(
            path, f"'{gather}' collects the results of '{first}' already; each batch needs a gather of its own"
        )


def _check_timeout(findings: Findings, node: Node) -> None:
    """What a wait does without an answer in time."""
    action = node.params.get("onTimeout")
    if not isinstance(action, str) or not action:
        return
    path = node_path(node, "params", "onTimeout")
    if node.params.get("timeout") is None and node.params.get(MOMENT) is None:
        findings.warning(path, "there is no params.timeout: it waits for as long as it takes")
    taken = {arc.edge.action for arc in findings.graph.edges_from(node.id)}
    if taken and not taken & {action, None}:
        findings.error(path, f"no edge takes the action '{action}': the node would fail when its time is over")


def _check_end(findings: Findings, node: Node) -> None:
    """A sleep needs one end, a wait may have one: a duration, or a point in time."""
    ends = [name for name in (*DURATION_PARAMS[node.uses], MOMENT) if node.params.get(name) is not None]
    if len(ends) > 1:
        message = f"'{ends[0]}' and '{ends[1]}' both say when it ends; write one of them"
        findings.error(node_path(node, "params", ends[1]), message)
    if not ends and node.uses == "sleep":
        message = "'sleep' needs it: how long, such as 30s or 5m; or 'until', a time"
        findings.lacks(node_path(node, "params", "duration"), message, *DURATION_PARAMS["sleep"], MOMENT)


def _gathers(findings: Findings) -> Iterator[str | None]:
    """What each batch-scatter names as its gather."""
    return (gather_of(node) for node in findings.graph.nodes.values() if node.uses == "batch-scatter")


def _check_gather(findings: Findings, node: Node, astray: bool) -> None:
    """`astray`: a batch-scatter names a gather that does not exist; that is reported there, and may well mean this one."""
    scatters = [arc.source for arc in findings.graph.incoming[node.id] if arc.kind == "batch"]
    if not scatters and not astray:
        findings.error(node_path(node), f"no batch-scatter names '{node.id}' as its params.gatherNodeId")
    for arc in findings.graph.incoming[node.id]:
        if arc.kind == "fallback":
            path = node_path(findings.graph.nodes[arc.source], "config", "fallback")
            findings.error(path, f"'{node.id}' uses 'batch-gather': it waits for a batch and can stand in for no node")
    own = node.params.get("gatherNodeId")
    if isinstance(own, str) and own != node.id:
        message = f"is ignored here unless it is the node's own id; got '{own}'"
        findings.warning(node_path(node, "params", "gatherNodeId"), message)


def _is_written(findings: Findings, node: Node, name: str) -> bool:
    """Whether a param stands in the file; else a handler's entry in flowcraft.yaml has brought it."""
    values = findings.blueprint.positions.values
    return not values or node_path(node, "params", name) in values
