"""Reads the test cases of a blueprint: `tests`. They are data here; `flowcraft_server.testing` runs them."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.yaml_tree import Fields, Items, Scalar, Tree, kind_of
from flowcraft_server.blueprints.loading.load_context import LoadContext

TEST_KEYS = ("name", "input", "mocks", "expect")
MOCK_KEYS = ("output", "action", "error", "writes", "delay", "items", "signal")
ITEM_KEYS = ("output", "error", "delay")
ERROR_KEYS = ("type", "message", "retryable")
EXPECT_KEYS = ("status", "ran", "notRan", "output", "outputs", "context", "error", "times")
EXPECTED_ERROR_KEYS = ("type", "message", "node")
STATUSES = ("completed", "failed", "cancelled", "timed_out", "waiting")
MOST_TIMES = 1_000_000


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
        case["expect"] = read_expected(reading, entries["expect"].value, (*path, "expect"))
    return case


def _mock(reading: LoadContext, tree: Tree, path: Path) -> dict[str, Any] | list[dict[str, Any]]:
    """An answer, or a list of answers that are given in turn."""
    if isinstance(tree, Items):
        if not tree.items:
            reading.error(tree.position, path, "a list of answers needs one at least")
        return [_answer(reading, item, (*path, index), MOCK_KEYS) for index, item in enumerate(tree.items)]
    return _answer(reading, tree, path, MOCK_KEYS)


def _answer(reading: LoadContext, tree: Tree, path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    entries = reading.fields(tree, path, keys)
    case: dict[str, Any] = {}
    for name in ("output", "signal"):  # null is a value like any other
        if name in keys and isinstance(tree, Fields) and name in tree.entries:
            case[name] = reading.data(tree.entries[name].value, (*path, name))
    if "action" in entries:
        case["action"] = reading.text(entries["action"].value, (*path, "action"), "an action")
    if "error" in entries:
        case["error"] = _error(reading, entries["error"].value, (*path, "error"))
    if "writes" in entries:
        reading.any_fields(entries["writes"].value, (*path, "writes"), "context keys to values")
        writes = reading.data(entries["writes"].value, (*path, "writes"))
        case["writes"] = writes if isinstance(writes, dict) else {}
    if "items" in entries:
        case["items"] = _items(reading, entries["items"].value, (*path, "items"))
    if "delay" in entries:
        case["delay"] = reading.duration(entries["delay"].value, (*path, "delay"))
    others = case.keys() - {"error", "delay"}
    if "error" in entries and others:
        reading.error(
            entries["error"].key_position, (*path, "error"), "a node that fails has neither output nor action"
        )
    return case


def _items(reading: LoadContext, tree: Tree, path: Path) -> list[dict[str, Any]]:
    if not isinstance(tree, Items):
        reading.error(tree.position, path, f"expected a list with an answer for each item; got {kind_of(tree)}")
        return []
    return [_answer(reading, item, (*path, index), ITEM_KEYS) for index, item in enumerate(tree.items)]


def _error(reading: LoadContext, tree: Tree, path: Path) -> dict[str, Any]:
    """An error that a node raises: its message, or its type, its message and whether it may be tried again."""
    if not isinstance(tree, Fields):
        return {"message": reading.text(tree, path, "the message of an error") or ""}
    entries = reading.fields(tree, path, ERROR_KEYS)
    error: dict[str, Any] = {}
    for name, what in (("type", "the name of an error type"), ("message", "the message of an error")):
        if name in entries:
            error[name] = reading.text(entries[name].value, (*path, name), what) or ""
    if "retryable" in entries:
        value = entries["retryable"].value
        if isinstance(value, Scalar) and isinstance(value.value, bool):
            error["retryable"] = value.value
        else:
            reading.error(value.position, (*path, "retryable"), f"expected true or false; got {kind_of(value)}")
    return error


def read_expected(reading: LoadContext, tree: Tree, path: Path, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a case expects of its run.

    Args:
        also: further keys that may stand there, which the caller reads.
    """
    entries = reading.fields(tree, path, (*EXPECT_KEYS, *also))
    case: dict[str, Any] = {}
    if "status" in entries:
        case["status"] = reading.choice(entries["status"].value, (*path, "status"), STATUSES)
    for name in ("ran", "notRan"):
        if name in entries:
            case[name] = _ids(reading, entries[name].value, (*path, name))
    if isinstance(tree, Fields) and "output" in tree.entries:
        case["output"] = reading.data(tree.entries["output"].value, (*path, "output"))
    for name, what in (("outputs", "node ids to outputs"), ("context", "context keys to values")):
        if name in entries:
            reading.any_fields(entries[name].value, (*path, name), what)
            values = reading.data(entries[name].value, (*path, name))
            case[name] = values if isinstance(values, dict) else {}
    if "error" in entries:
        case["error"] = _expected_error(reading, entries["error"].value, (*path, "error"))
    if "times" in entries:
        times = reading.any_fields(entries["times"].value, (*path, "times"), "node ids to how often the nodes run")
        counts = {
            node: reading.whole_number(entry.value, (*path, "times", node), 0, MOST_TIMES)
            for node, entry in times.items()
        }
        case["times"] = {node: count for node, count in counts.items() if count is not None}
    return case


def _expected_error(reading: LoadContext, tree: Tree, path: Path) -> dict[str, str]:
    """An error that is expected: its type, or its type, a part of its message and the node that fails."""
    if not isinstance(tree, Fields):
        text = reading.text(tree, path, "the type of an error")
        return {} if text is None else {"type": text}
    entries = reading.fields(tree, path, EXPECTED_ERROR_KEYS)
    found = {name: reading.text(entry.value, (*path, name)) for name, entry in entries.items()}
    return {name: text for name, text in found.items() if text is not None}


def _ids(reading: LoadContext, tree: Tree, path: Path) -> list[str]:
    if isinstance(tree, Scalar):
        text = reading.text(tree, path, "the id of a node or a list of them")
        return [] if text is None else [text]
    return [text for text, _ in reading.texts(tree, path, "the id of a node")]
