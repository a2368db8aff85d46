"""The JSON Schema of blueprint files, for editors: made from the keys that the loader knows and from registered handlers.

It says less than the linter: what one value has to do with another is left to `check`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from flowcraft_sdk.node import HandlerSpec
from flowcraft_sdk.protocol.usage_sums import LEAST_USD, MOST_USD
from flowcraft_server.blueprints.agent_params import PROVIDED
from flowcraft_server.blueprints.linting.builtin_nodes import PARAMS
from flowcraft_server.blueprints.loading.contract import INPUT_TYPES
from flowcraft_server.blueprints.loading.keys import (
    BLUEPRINT_KEYS,
    BUDGET_KEYS,
    CONFIG_KEYS,
    CONTEXT_KEYS,
    CONTRACT_KEYS,
    DEFAULTS_KEYS,
    EDGE_KEYS,
    EDITOR_BLUEPRINT_KEYS,
    EDITOR_EDGE_KEYS,
    EDITOR_NODE_KEYS,
    LIMITS_KEYS,
    NODE_KEYS,
    RETRY_DELAY_KEYS,
)
from flowcraft_server.blueprints.loading.links import ANY_ACTION
from flowcraft_server.blueprints.loading.test_cases import (
    ERROR_KEYS,
    EXPECT_KEYS,
    EXPECTED_ERROR_KEYS,
    ITEM_KEYS,
    MOCK_KEYS,
    STATUSES,
    TEST_KEYS,
)
from flowcraft_server.blueprints.model import BUILTIN_USES
from flowcraft_server.blueprints.node_config import LARGEST_FACTOR, MOST_ATTEMPTS
from flowcraft_server.blueprints.run_limits import OVERFLOWS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DURATION_PATTERN = r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$"

Schema = dict[str, Any]

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
"""A text; numbers and truth values count as they are written."""
_ID: Schema = {**_TEXT, "description": "The id of a node."}
_IDS: Schema = {"anyOf": [_ID, {"type": "array", "items": _ID}]}
_DURATION: Schema = {
    "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}],
    "description": "A span of time with its unit, such as 500ms, 30s, 5m, 2h, 1d or 1h30m.",
}
_EXPRESSION: Schema = {"type": "string", "pattern": r"^\s*="}
_SPAN: Schema = {**_DURATION, "anyOf": [*_DURATION["anyOf"], _EXPRESSION]}
"""A duration, or an expression for one."""
_SOURCE: Schema = {
    "type": ["string", "integer"],
    "description": "The path of a value: the id of a node or a key of the context.",
}
_VALUE: Schema = {
    "type": "object", "properties": {"value": {}}, "required": ["value"], "additionalProperties": False,
    "description": "A value that is written where it is used.",
}  # fmt: skip
_BY_NAME: Schema = {"type": "object", "additionalProperties": {"anyOf": [_SOURCE, _VALUE]}}
_SOURCES: Schema = {"anyOf": [_SOURCE, _BY_NAME]}
_ANYTHING: Schema = {}

_CONFIG: Mapping[str, Schema] = {
    "maxRetries": {"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS,
                   "description": "How many attempts the node has in all, the first one too."},
    "retryDelay": {"description": "The pause before a further attempt.", "anyOf": [_SPAN, {"$ref": "#/$defs/retryDelay"}]},
    "timeout": {**_SPAN, "description": "Time limit of one attempt, such as 30s."},
    "joinStrategy": {"enum": ["all", "any"], "description": "Whether it waits for all of its incoming edges or for the first."},
    "fallback": {**_TEXT, "description": "The node that stands in when this one fails for good."},
    "queue": {**_TEXT, "description": "The queue that its work is served from."},
    "limit": {**_TEXT, "description": "The limit of the deployment that it counts against."},
    "nonRetryable": {"description": "Names of error types that are not tried again.",
                     "anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
    "compensate": {**_TEXT, "description": "The node that undoes this one if the run does not complete."},
    "budget": {"$ref": "#/$defs/budget"},
    "onItemError": {"enum": ["fail", "collect"], "description": "Whether a failing item fails the batch."},
    "onParentCancel": {"enum": ["cancel", "abandon"],
                       "description": "Of a subflow: whether the child run is stopped when this run stops, or goes on."},
}  # fmt: skip
_BUDGET: Mapping[str, Schema] = {
    "usd": {"type": "number", "minimum": LEAST_USD, "maximum": MOST_USD, "description": "US dollars."},
    "tokens": {"type": ["integer", "string"], "description": "Tokens of input and output, such as 200k."},
}
_RETRY_DELAY: Mapping[str, Schema] = {
    "initial": _SPAN,
    "factor": {"type": "number", "minimum": 1, "maximum": LARGEST_FACTOR},
    "max": _DURATION,
    "jitter": {"type": "number", "minimum": 0, "maximum": 1},
}
_CONTRACT: Mapping[str, Schema] = {
    "type": {"enum": list(INPUT_TYPES)},
    "required": {"type": "boolean"},
    "description": _TEXT,
    "enum": {"type": "array", "minItems": 1},
}
_EDGE: Mapping[str, Schema] = {
    "source": _ID,
    "target": _ID,
    "action": {**_TEXT, "description": "Taken when the source returns this action."},
    "condition": {**_TEXT, "description": "Taken when this expression holds."},
    "transform": {**_TEXT, "description": "Expression for what the target gets."},
}
_ANSWERS: Mapping[str, Schema] = {
    "output": {"description": "What the node returns."},
    "action": {**_TEXT, "description": "The action that it returns."},
    "error": {"description": "The node fails: a message, or type, message and retryable.",
              "anyOf": [_TEXT, {"$ref": "#/$defs/mockedError"}]},
    "writes": {"type": "object", "description": "Context keys that it writes."},
    "delay": {**_DURATION, "description": "How long it takes, by the clock of the test."},
    "items": {"type": "array", "items": {"$ref": "#/$defs/mockedItem"}, "description": "Of a batch: what each item returns."},
    "signal": {"description": "Of a wait: the payload of the answer."},
}  # fmt: skip
_EXPECTED: Mapping[str, Schema] = {
    "status": {"enum": list(STATUSES)},
    "ran": _IDS,
    "notRan": _IDS,
    "output": {"description": "The result of the run."},
    "outputs": {"type": "object", "description": "By node its output."},
    "context": {"type": "object", "description": "By key its value."},
    "error": {"anyOf": [_TEXT, {"$ref": "#/$defs/expectedError"}]},
    "times": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
}
_PARAM: Mapping[str, Schema] = {
    "inputs": _BY_NAME,
    "outputs": _BY_NAME,
    "duration": _SPAN,
    "for": _SPAN,
    "timeout": _SPAN,
    "maxIterations": {"type": "integer", "minimum": 1},
    "chunkSize": {"type": "integer", "minimum": 1},
    "maxLive": {"type": "integer", "minimum": 1},
    "allowMissing": {"type": "boolean"},
    "params": {"type": "object"},
    "actions": {"type": "array", "items": _TEXT},
    "schema": {"type": ["object", "boolean"], "description": "JSON Schema of the answers that are taken."},
}


def blueprint_schema(
    handlers: Mapping[str, HandlerSpec] | None,
    blueprint_ids: Collection[str] = (),
    given_params: Mapping[str, Collection[str]] | None = None,
) -> Schema:
    """The JSON Schema of a deployment's blueprint files.

    Args:
        handlers: what handlers declare, by the name that nodes `use`; None to allow any name.
        blueprint_ids: blueprints that may be called; editors offer them, and others are allowed.
        given_params: by handler the params that the deployment gives to all its nodes, so that they may be left out.
    """
    properties: dict[str, Schema] = {
        "id": {**_TEXT, "description": "The id; by default the file's name without its ending."},
        "description": _TEXT,
        "nodes": {"anyOf": _NODES},
        "finally": {"description": "Nodes that run however a run ends, or the ids of such as stand among the nodes.",
                    "anyOf": [*_NODES, {"type": "array", "minItems": 1, "items": _ID}]},
        "edges": {"anyOf": [{"type": "array", "items": _EDGE_ITEM}, {"type": "object", "additionalProperties": _EDGE_ITEM}]},
        "inputs": {"description": "What a run has to be started with.", **_contract(CONTRACT_KEYS)},
        "outputs": {"description": "What a run's result holds, by name the path it comes from.", "anyOf": [
            {"type": "array", "items": _TEXT}, _BY_NAME]},
        "defaults": _of_keys(DEFAULTS_KEYS, _CONFIG, "Settings of nodes that have none of their own."),
        "onFailure": {"enum": ["stop", "continue"], "description": "Whether a node that fails for good stops the run at once."},
        "limits": _of_keys(LIMITS_KEYS, {
            "concurrentRuns": {"type": "integer", "minimum": 1, "description": "How many of its runs there may be at once."},
            "concurrentRunsPerKey": {"type": "integer", "minimum": 1, "description": "The same, of runs that have one key."},
            "overflow": {"enum": list(OVERFLOWS), "description": "What becomes of a run that is one too many."},
        }, "How many runs there may be at once."),
        "metadata": {"type": "object"},
        "budget": {"$ref": "#/$defs/budget"},
        "tests": {"type": "array", "items": {"$ref": "#/$defs/test"}, "description": "Test cases, which `flowcraft test` runs."},
        "context": {"description": "The context keys that handlers write.", **_contract(CONTEXT_KEYS)},
    }  # fmt: skip
    top = _of_keys(BLUEPRINT_KEYS, properties, also=EDITOR_BLUEPRINT_KEYS)
    return {"$schema": DIALECT, "title": "Flowcraft blueprint", **top, "required": ["nodes"],
            "$defs": _definitions(handlers, blueprint_ids, given_params or {})}  # fmt: skip


def _of_keys(
    keys: Iterable[str], known: Mapping[str, Schema], description: str = "", also: Iterable[str] = ()
) -> Schema:
    """A mapping with these keys and no other; what is known of none of its values may be anything, or nothing."""
    properties = {key: _or_nothing(known.get(key, _ANYTHING)) for key in keys}
    properties |= {key: _ANYTHING for key in sorted(also) if key not in properties}
    schema: Schema = {"type": "object", "properties": properties, "patternProperties": {"^x-": {}}}
    return {**schema, "additionalProperties": False, **({"description": description} if description else {})}


def _or_nothing(schema: Schema) -> Schema:
    """A key whose value is left away is one that is not set."""
    if not schema:
        return schema
    about = {"description": schema["description"]} if "description" in schema else {}
    return {**about, "anyOf": [schema, {"type": "null"}]}


_NODES: list[Schema] = [
    {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/node"}},
    {"type": "array", "minItems": 1, "items": {"allOf": [{"$ref": "#/$defs/node"}, {"required": ["id"]}]}},
]
_EDGE_ITEM: Schema = {"anyOf": [{"$ref": "#/$defs/edge"}, {"type": "string", "pattern": "->"}]}


def _contract(keys: Collection[str]) -> Schema:
    kinds: Schema = {"enum": list(INPUT_TYPES)}
    rule = {"anyOf": [kinds, {"type": "null"}, _of_keys(keys, _CONTRACT)]}
    return {"anyOf": [{"type": "array", "items": _TEXT}, {"type": "object", "additionalProperties": rule}]}


def _definitions(
    handlers: Mapping[str, HandlerSpec] | None, blueprint_ids: Collection[str], given: Mapping[str, Collection[str]]
) -> Schema:
    called: Schema = {**_TEXT, "description": "The id of a blueprint."}
    if blueprint_ids:
        called = {"description": "The id of a blueprint.", "anyOf": [{"enum": sorted(blueprint_ids)}, _TEXT]}
    names: Schema = {"type": "string"} if handlers is None else {"enum": [*{**handlers, **PROVIDED}, *BUILTIN_USES]}
    node: Mapping[str, Schema] = {
        "id": _TEXT,
        "uses": {**names, "description": "The name of its handler, or a kind of node that the engine itself runs."},
        "inputs": _SOURCES,
        "params": {"type": "object", "description": "Settings for the handler."},
        "config": {"$ref": "#/$defs/config"},
        "needs": {"description": "Nodes that it runs behind.", "anyOf": [_IDS, *(
            {"type": "object", "properties": {join: _IDS}, "required": [join], "additionalProperties": False}
            for join in ("any", "all"))]},
        "next": {"description": "Nodes that run behind it, or by action such nodes.",
                 "anyOf": [_IDS, {"type": "object", "additionalProperties": _IDS}]},
        "call": called,
        "outputs": _BY_NAME,
    }  # fmt: skip
    nodes = _of_keys(NODE_KEYS, node, also=EDITOR_NODE_KEYS)
    something = {"not": {"type": "null"}}
    nodes["anyOf"] = [{"required": [key], "properties": {key: something}} for key in ("uses", "call", "type")]
    nodes["allOf"] = [*_of_builtins(called, handlers), *_of_handlers({**PROVIDED, **(handlers or {})}, given)]
    mock = _of_keys(MOCK_KEYS, _ANSWERS)
    return {
        "node": nodes,
        "edge": {**_of_keys(EDGE_KEYS, _EDGE, also=EDITOR_EDGE_KEYS), "required": ["source", "target"]},
        "config": _of_keys(CONFIG_KEYS, _CONFIG),
        "budget": {**_of_keys(BUDGET_KEYS, _BUDGET, "What model calls may use at most."), "minProperties": 1},
        "retryDelay": {**_of_keys(RETRY_DELAY_KEYS, _RETRY_DELAY), "required": ["initial"]},
        "mock": {"anyOf": [mock, {"type": "array", "minItems": 1, "items": mock}]},
        "mockedItem": _of_keys(ITEM_KEYS, _ANSWERS),
        "mockedError": _of_keys(ERROR_KEYS, {"type": _TEXT, "message": _TEXT, "retryable": {"type": "boolean"}}),
        "expectedError": _of_keys(EXPECTED_ERROR_KEYS, dict.fromkeys(EXPECTED_ERROR_KEYS, _TEXT)),
        "test": _of_keys(TEST_KEYS, {
            "name": _TEXT,
            "input": {"type": "object", "description": "The start context."},
            "mocks": {"type": "object", "additionalProperties": {"$ref": "#/$defs/mock"}},
            "expect": _of_keys(EXPECT_KEYS, _EXPECTED),
        }),
    }  # fmt: skip


def _of_builtins(called: Schema, handlers: Mapping[str, HandlerSpec] | None) -> list[Schema]:
    """What the params of each built-in kind are."""
    worker: Schema = {"type": "string"} if handlers is None else {"enum": list(handlers)}
    known = {**_PARAM, "blueprintId": called, "call": called, "uses": worker, "workerUsesKey": worker}
    rules = []
    for uses, checks in PARAMS.items():
        # A param that the kind does not know is only worth a warning: editors offer those that there are.
        properties = {name: _or_nothing(known.get(name, _ANYTHING)) for name in checks}
        rules.append(_if_uses(uses, {"params": {"type": "object", "properties": properties}}))
    return rules


def _of_handlers(handlers: Mapping[str, HandlerSpec], given: Mapping[str, Collection[str]]) -> list[Schema]:
    """What the params of each handler are that declares a model, and which actions it returns."""
    rules = []
    for name, spec in handlers.items():
        then: dict[str, Schema] = {}
        if spec.params is not None:
            then["params"] = _params_schema(name, spec, given.get(name, ()))
        if spec.actions is not None:
            by_action = dict.fromkeys((*spec.actions, ANY_ACTION), _IDS)
            then["next"] = {"anyOf": [{"type": ["string", "number", "array", "boolean", "null"]}, {
                "type": "object", "properties": by_action, "additionalProperties": False}]}  # fmt: skip
        if then:
            rules.append(_if_uses(name, then))
    return rules


def _params_schema(name: str, spec: HandlerSpec, given: Collection[str]) -> Schema:
    assert spec.params is not None
    try:
        schema: Schema = spec.params.model_json_schema(by_alias=True)
    except Exception:  # pydantic has no schema for every type, and a model may have code of its own
        return {"type": "object"}
    reference = str(schema.get("$ref", ""))
    if reference.startswith("#/$defs/"):  # a model that holds itself
        schema = {**schema["$defs"][reference.removeprefix("#/$defs/")], "$defs": schema["$defs"]}
    if given and "required" in schema:
        schema["required"] = [param for param in schema["required"] if param not in given]
    # Its references are to its own definitions: an id makes it a document of its own.
    return {**schema, "$id": f"flowcraft:params:{quote(name, safe='')}"}


def _if_uses(uses: str, then: Mapping[str, Schema]) -> Schema:
    rule = {"properties": {"uses": {"const": uses}}, "required": ["uses"]}
    return {"if": rule, "then": {"properties": dict(then)}}
