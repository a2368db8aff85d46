"""The keys of a blueprint file, and the keys of graph editors that say nothing about a run."""

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
    "nonRetryable",
    "onItemError",
)
DEFAULTS_KEYS = tuple(key for key in CONFIG_KEYS if key != "fallback")
RETRY_DELAY_KEYS = ("initial", "factor", "max", "jitter")
CONTRACT_KEYS = ("type", "default", "required", "description", "enum")

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
"""At the top of JSON files only: in YAML somebody who writes `name:` means `id:`."""

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
