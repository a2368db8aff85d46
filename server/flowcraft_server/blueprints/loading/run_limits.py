"""Reads the `limits` of a blueprint."""

from typing import Any

from flowcraft_sdk._config.yaml_tree import Tree
from flowcraft_server.blueprints.loading.keys import LIMITS_KEYS
from flowcraft_server.blueprints.loading.load_context import LoadContext
from flowcraft_server.blueprints.run_limits import MOST_CONCURRENT, OVERFLOWS, RunLimits

_NAMES = {"concurrentRuns": "concurrent_runs", "concurrentRunsPerKey": "concurrent_runs_per_key"}


def read_run_limits(reading: LoadContext, tree: Tree) -> RunLimits | None:
    """The limits that a mapping lays down; None if it lays none down."""
    values: dict[str, Any] = {}
    entries = reading.fields(tree, ("limits",), LIMITS_KEYS)
    for key, entry in entries.items():
        path = ("limits", key)
        reading.positions.put(path, entry.value.position, entry.key_position)
        if key == "overflow":
            chosen = reading.choice(entry.value, path, OVERFLOWS)
            if chosen is not None:
                values["overflow"] = chosen
        else:
            values[_NAMES[key]] = reading.whole_number(entry.value, path, 1, MOST_CONCURRENT)
    limits = RunLimits(**values)
    if not limits.stored():
        if "overflow" in values and not entries.keys() & _NAMES.keys():
            reading.error(
                entries["overflow"].value.position,
                ("limits", "overflow"),
                "there is no limit that could be reached: set concurrentRuns or concurrentRunsPerKey",
            )
        return None
    return limits
