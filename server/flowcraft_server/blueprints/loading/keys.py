"""The keys of a blueprint file, the keys of graph editors that say nothing about a run, and what others call them."""

from collections.abc import Collection

BLUEPRINT_KEYS = (
    "id",
    "description",
    "nodes",
    "edges",
    "inputs",
    "outputs",
    "defaults",
    "onFailure",
    "metadata",
    "tests",
    "context",
    "finally",
    "budget",
    "limits",
)
NODE_KEYS = ("id", "uses", "inputs", "params", "config", "needs", "next", "call", "outputs")
OLDER_NODE_KEYS = ("id", "type", "data", "inputs", "config")
EDGE_KEYS = ("source", "target", "action", "condition", "transform")
CONFIG_KEYS = (
    "maxRetries",
    "retryDelay",
    "timeout",
    "joinStrategy",
    "fallback",
    "queue",
    "limit",
    "nonRetryable",
    "onItemError",
    "compensate",
    "budget",
    "onParentCancel",
)
DEFAULTS_KEYS = tuple(key for key in CONFIG_KEYS if key not in ("fallback", "compensate", "limit", "onParentCancel"))
LIMITS_KEYS = ("concurrentRuns", "concurrentRunsPerKey", "overflow")
RETRY_DELAY_KEYS = ("initial", "factor", "max", "jitter")
BUDGET_KEYS = ("usd", "tokens")
CONTRACT_KEYS = ("type", "default", "required", "description", "enum")
CONTEXT_KEYS = ("type", "description")

_NOTES = frozenset({"_sourceLocation", "metadata", "description", "label", "title", "comment", "notes", "tags"})
_DRAWING = frozenset(
    {
        "ariaLabel", "class", "className", "color", "data", "deletable", "domAttributes", "events", "focusable",
        "hidden", "icon", "interactionWidth", "label", "name", "selectable", "selected", "style", "type", "ui",
        "zIndex",
    }
)  # fmt: skip

EDITOR_BLUEPRINT_KEYS = frozenset({"$schema", "_sourceLocation", "viewport", "position", "zoom", "x", "y"})
EDITOR_JSON_KEYS = frozenset(
    {"name", "title", "label", "version", "createdAt", "updatedAt", "tags", "ui", "data", "style"}
)
"""At the top of JSON files only: in YAML `name:` is a mistake for `id:`."""

EDITOR_NODE_KEYS = (
    _NOTES
    | _DRAWING
    | {
        "computedPosition", "connectable", "dimensions", "dragHandle", "draggable", "dragging", "expandParent",
        "extent", "handleBounds", "handles", "height", "initialHeight", "initialWidth", "initialized", "internals",
        "isParent", "measured", "origin", "parent", "parentId", "parentNode", "position", "positionAbsolute",
        "resizing", "sourcePosition", "targetPosition", "width", "x", "y",
    }
)  # fmt: skip
EDITOR_EDGE_KEYS = (
    _NOTES
    | _DRAWING
    | {
        "animated", "curvature", "id", "labelBgBorderRadius", "labelBgPadding", "labelBgStyle", "labelShowBg",
        "labelStyle", "markerEnd", "markerStart", "pathOptions", "reconnectable", "sourceHandle", "sourceNode",
        "sourceX", "sourceY", "targetHandle", "targetNode", "targetX", "targetY", "updatable",
    }
)  # fmt: skip

WORDS_OF_OTHERS = {
    "from": "source", "start": "source", "to": "target", "end": "target", "if": "condition", "when": "condition",
    "depends": "needs", "dependsOn": "needs", "after": "needs", "upstream": "needs", "then": "next", "on": "next",
    "handler": "uses", "task": "uses", "activity": "uses", "function": "uses", "run": "uses", "type": "uses",
    "workflow": "call", "subflow": "call", "dag": "call", "subdag": "call",
    "args": "params", "kwargs": "params", "with": "params", "arguments": "params", "data": "params",
    "attempts": "maxRetries", "maxAttempts": "maxRetries", "maximumAttempts": "maxRetries", "retries": "maxRetries",
    "retry": "maxRetries", "retryLimit": "maxRetries", "retryPolicy": "maxRetries",
    "backoff": "retryDelay", "retryBackoff": "retryDelay", "defaultRetryDelay": "retryDelay", "countdown": "retryDelay",
    "retryDelaySeconds": "retryDelay", "initialInterval": "retryDelay", "retryInterval": "retryDelay",
    "timeLimit": "timeout", "softTimeLimit": "timeout", "timeoutSeconds": "timeout", "startToCloseTimeout": "timeout",
    "scheduleToCloseTimeout": "timeout", "executionTimeout": "timeout", "timeoutSec": "timeout",
    "triggerRule": "joinStrategy", "join": "joinStrategy", "taskQueue": "queue", "workPool": "queue", "pool": "queue",
    "nonRetryableErrorTypes": "nonRetryable", "dontAutoretryFor": "nonRetryable", "onError": "fallback",
    "parentClosePolicy": "onParentCancel", "onParentClose": "onParentCancel", "parentPolicy": "onParentCancel",
    "compensation": "compensate", "compensateWith": "compensate", "undo": "compensate",
    "onExit": "finally", "handlerOn": "finally", "cleanup": "finally",
    "input": "inputs", "parameters": "inputs", "output": "outputs", "result": "outputs", "steps": "nodes", "tasks": "nodes",
    "concurrency": "limits", "maxActiveRuns": "concurrentRuns", "concurrencyLimit": "concurrentRuns", "maxRuns": "concurrentRuns",
    "concurrencyPolicy": "overflow", "onOverflow": "overflow", "collisionStrategy": "overflow",
    "name": "id", "title": "description",
}  # fmt: skip
"""What other systems call our keys (Celery, Temporal, Prefect, Airflow, GitHub Actions), without dashes and underscores."""

STRUCTURE = frozenset({"nodes", "uses", "call", "needs", "next", "source", "target"})
"""Keys without which the graph is another one."""


def word_of_another(name: str, known: Collection[str]) -> str | None:
    """The key that is meant by another system's word for it; None if it is none, or not of these keys."""
    key = WORDS_OF_OTHERS.get(_in_camel_case(name))
    return key if key in known else None


def _in_camel_case(name: str) -> str:
    first, *rest = name.replace("-", "_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def belongs_under_config(name: str) -> str:
    """Words that end a message about a key which a node has in its `config`; nothing for any other."""
    own = _in_camel_case(name)
    setting = own if own in CONFIG_KEYS else word_of_another(name, CONFIG_KEYS)
    return f"; it belongs under 'config': config: {{{setting}: ...}}" if setting is not None else ""
