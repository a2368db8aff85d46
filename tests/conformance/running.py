"""Starts the cases' runs on an environment, and says how a run differs from what its case expects."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowcraft_sdk import Handle
from flowcraft_server.testing import TestEnvironment

FILE = Path(os.environ.get("FLOWCRAFT_CONFORMANCE_CASES", Path(__file__).with_name("cases.json")))
CASES: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["cases"]
TIMEOUT = 60.0


def start_all(env: TestEnvironment, cases: Iterable[dict[str, Any]] = CASES) -> dict[str, Handle[Any]]:
    """A run of each case, all under way at once; cases whose blueprints share an id come one after another."""
    handles: dict[str, Handle[Any]] = {}
    published: set[str] = set()
    for case in cases:
        blueprints = [*case["subflows"].values(), case["blueprint"]]
        ids = {blueprint["id"] for blueprint in blueprints}
        if ids & published:
            for handle in handles.values():
                handle.wait(timeout=TIMEOUT)
            published.clear()
        published |= ids
        env.publish(blueprints)
        handles[case["name"]] = env.client.start(case["blueprint"]["id"], case["context"])
    return handles


def differences(handle: Handle[Any], case: dict[str, Any]) -> list[str]:
    """How the run of a case differs from what is expected; empty when it conforms."""
    snapshot = handle.wait(timeout=TIMEOUT)
    described = handle.describe(ctx=True)
    expected = case["expected"]
    found = []
    if snapshot.status != expected["status"]:
        found.append(f"status: {snapshot.status}, expected {expected['status']}: {described.failures}")
    ran = sorted(
        {name for name, node in described.nodes.items() if node.status == "completed" or node.caught_by_fallback}
        - {name for name in described.nodes if "[" in name}
    )
    if ran != sorted(set(expected["ran"])):
        found.append(f"ran {ran}, expected {expected['ran']}")
    context = described.ctx or {}
    for key, value in expected["context"].items():
        if context.get(key) != value:
            found.append(f"{key}: {context.get(key)!r}, expected {value!r}")
    return found


def recorded_twice(handle: Handle[Any]) -> list[str]:
    """Nodes whose completion stands more than once in the history of one iteration."""
    completed = Counter(
        event.node_id or ""
        for event in handle.events(follow=False)
        if event.type in ("node_completed", "node_recovered")
    )
    return [instance for instance, times in completed.items() if times > 1]
