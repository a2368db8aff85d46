"""Every conformance case on the real engine, with worker threads."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft_server.executor.settings import WorkerSettings
from flowcraft_server.testing import TestEnvironment
from tests.conformance.case_handlers import HANDLERS

FILE = Path(os.environ.get("FLOWCRAFT_CONFORMANCE_CASES", Path(__file__).with_name("cases.json")))
CASES = json.loads(FILE.read_text("utf-8"))["cases"]


@pytest.fixture(scope="module")
def environment() -> Iterator[TestEnvironment]:
    with TestEnvironment(handlers=HANDLERS, settings=WorkerSettings(threads=4)) as env:
        yield env


def differences(env: TestEnvironment, case: dict[str, Any]) -> list[str]:
    """How the run of a case differs from what is expected; empty when it conforms."""
    env.publish([*case["subflows"].values(), case["blueprint"]])
    handle = env.client.start(case["blueprint"]["id"], case["context"])
    snapshot = handle.wait(timeout=30)
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(environment: TestEnvironment, case: dict[str, Any]) -> None:
    assert differences(environment, case) == []
