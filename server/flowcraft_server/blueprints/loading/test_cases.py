"""Reads the test cases of a blueprint: `tests`. They are data here; nothing runs them."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.yaml_tree import Fields, Items, Scalar, Tree, kind_of
from flowcraft_server.blueprints.loading.load_context import LoadContext

TEST_KEYS = ("name", "input", "mocks", "expect")
MOCK_KEYS = ("output", "action", "error")
EXPECT_KEYS = ("status", "ran", "notRan", "output")
STATUSES = ("completed", "failed", "cancelled", "timed_out", "waiting")


def read_tests(reading: LoadContext, tree: Tree) -> tuple[Mapping[str, Any], ...]:
    """The test cases of a list: each with a start context, what nodes return in place of running, and what is expected."""
    if not isinstance(tree, Items):
        reading.error(tree.position, "tests", f"expected a list of test cases; got {kind_of(tree)}")
        return ()
    cases = []
    for index, item in enumerate(tree.items):
        if isinstance(item, Fields):
            cases.append(_case(reading, item, ("tests", index)))
        else:
            message = f"expected a mapping with name, input, expect; got {kind_of(item)}"
            reading.error(item.position, ("tests", index), message)
    return tuple(cases)


def _case(reading: LoadContext, tree: Fields, path: Path) -> dict[str, Any]:
    entries = reading.fields(tree, path, TEST_KEYS)
    reading.data(tree, path)
    case: dict[str, Any] = {}
    if "name" in entries:
        case["name"] = reading.text(entries["name"].value, (*path, "name")) or ""
    if "input" in entries:
        place = (*path, "input")
        reading.any_fields(entries["input"].value, place, "keys of the start context to values")
        context = reading.data(entries["input"].value, place)
        case["input"] = context if isinstance(context, dict) else {}
    if "mocks" in entries:
        mocks = reading.any_fields(entries["mocks"].value, (*path, "mocks"), "node ids to what the nodes return")
        case["mocks"] = {node: _mock(reading, entry.value, (*path, "mocks", node)) for node, entry in mocks.items()}
    if "expect" in entries:
        case["expect"] = _expected(reading, entries["expect"].value, (*path, "expect"))
    return case


def _mock(reading: LoadContext, tree: Tree, path: Path) -> dict[str, Any]:
    entries = reading.fields(tree, path, MOCK_KEYS)
    case: dict[str, Any] = {}
    if isinstance(tree, Fields) and "output" in tree.entries:  # null is an output like any other
        case["output"] = reading.data(tree.entries["output"].value, (*path, "output"))
    for name, what in (("action", "an action"), ("error", "the message of an error")):
        if name in entries:
            case[name] = reading.text(entries[name].value, (*path, name), what)
    if "error" in entries and len(case) > 1:
        reading.error(
            entries["error"].key_position, (*path, "error"), "a node that fails has neither output nor action"
        )
    return case


def _expected(reading: LoadContext, tree: Tree, path: Path) -> dict[str, Any]:
    entries = reading.fields(tree, path, EXPECT_KEYS)
    case: dict[str, Any] = {}
    if "status" in entries:
        case["status"] = reading.choice(entries["status"].value, (*path, "status"), STATUSES)
    for name in ("ran", "notRan"):
        if name in entries:
            case[name] = _ids(reading, entries[name].value, (*path, name))
    if isinstance(tree, Fields) and "output" in tree.entries:
        case["output"] = reading.data(tree.entries["output"].value, (*path, "output"))
    return case


def _ids(reading: LoadContext, tree: Tree, path: Path) -> list[str]:
    if isinstance(tree, Scalar):
        text = reading.text(tree, path, "the id of a node or a list of them")
        return [] if text is None else [text]
    return [text for text, _ in reading.texts(tree, path, "the id of a node")]
