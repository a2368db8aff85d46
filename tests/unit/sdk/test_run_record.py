"""From a run's hash to records, on hashes written by hand."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.events import parse_event
from flowcraft_sdk.protocol.run_record import SUMMARY_FIELDS, RunRecord
from flowcraft_sdk.records import NodeStatus, RunStatus

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
CR = str(int(CREATED.timestamp() * 1000))


def at(ms: int) -> datetime:
    return CREATED + timedelta(milliseconds=ms)


def doc(*nodes: str, edges: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "b", "nodes": [{"id": node, "uses": "x"} for node in nodes], "edges": edges or [], **more}


def record(fields: dict[str, Any], document: dict[str, Any] | None = None, **more: Any) -> RunRecord:
    base = {"bp": "b", "plan": "h", "st": "running", "cr": CR}
    values = {key: value if isinstance(value, str) else wire.dumps(value).decode() for key, value in fields.items()}
    return RunRecord("r1", {**base, **values, **more}, document or doc("a"))


def test_a_summary_needs_few_fields() -> None:
    fields = {"bp": "b", "plan": "h", "st": "completed", "cr": CR, "sr": str(int(CR) + 5), "en": str(int(CR) + 90)}
    assert set(fields) <= set(SUMMARY_FIELDS)
    found = RunRecord("r1", {**fields, "tags": '["x","ä"]', "par": "r0"}).summary()
    assert (found.run_id, found.blueprint_id, found.blueprint_version, found.status) == (
        "r1",
        "b",
        "h",
        RunStatus.COMPLETED,
    )
    assert (found.created_at, found.started_at, found.ended_at) == (CREATED, at(5), at(90))
    assert (found.tags, found.parent_run_id) == (("x", "ä"), "r0")


def test_a_status_of_a_newer_server_is_unknown_and_live() -> None:
    found = record({}, st="paused").summary()
    assert found.status is RunStatus.UNKNOWN
    assert not found.status.is_terminal
    terminal = {status for status in RunStatus if status.is_terminal}
    assert terminal == {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT}


@pytest.mark.parametrize(
    ("state", "status", "attempts", "started", "ended"),
    [
        (None, NodeStatus.PENDING, 0, None, None),
        ("R|1|0|0|5|default", NodeStatus.READY, 0, None, None),
        ("L|1|1|0|7", NodeStatus.RUNNING, 1, 7, None),
        ("T|2|1|0|9", NodeStatus.RETRYING, 1, None, None),
        ("W|1|1|0|9|signal", NodeStatus.WAITING, 1, None, None),
        ("C|2|3|1|7|90", NodeStatus.COMPLETED, 2, 7, 90),
        ("F|3|3|0|7|90", NodeStatus.FAILED, 3, 7, 90),
        ("K|1|1|0|7|90", NodeStatus.FAILED, 1, 7, 90),
        ("X|1|1|0|7|90", NodeStatus.CANCELLED, 1, 7, 90),
        ("S|0|0|0|90", NodeStatus.SKIPPED, 0, None, None),
        ("P|0|2|0|0", NodeStatus.COMPLETED, 0, None, None),
        ("Z|1|1|0|5", NodeStatus.UNKNOWN, 1, None, None),
    ],
)
def test_node_states(
    state: str | None, status: NodeStatus, attempts: int, started: int | None, ended: int | None
) -> None:
    found = record({} if state is None else {"n:a": state}).snapshot().nodes["a"]
    assert found.status is status
    assert found.started_at == (None if started is None else at(started))
    assert found.ended_at == (None if ended is None else at(ended))
    assert found.caught_by_fallback is (state is not None and state.startswith("K"))
    if state is not None and not state.startswith("P"):
        assert found.attempts == attempts


def test_progress_counts_what_is_done_and_items_of_a_batch_are_nodes_of_their_own() -> None:
    fields = {"n:a": "C|1|1", "n:b": "S|0|0|0|2", "n:c": "L|1|1|0|3", "n:c[7]": "L|1|1|1|4", "p:c": [0.5, "half"]}
    found = record(fields, doc("a", "b", "c", "d")).snapshot()
    assert (found.progress.done, found.progress.total) == (2, 4)
    assert list(found.nodes) == ["a", "b", "c", "d", "c[7]"]
    assert (found.nodes["c"].progress, found.nodes["c"].message) == (0.5, "half")
    assert found.nodes["c[7]"].crashes == 1


def failure(node: str, message: str = "boom", **more: Any) -> dict[str, Any]:
    reported = {
        "type": "app.Boom",
        "message": message,
        "node": node,
        "attempt": 2,
        "traceback": "Traceback",
        "retryable": False,
    }
    return {**reported, "details": {"price": Decimal("1.10")}, "at": int(CR) + 50, **more}


def test_failures_for_good_come_first_failed_first_and_nobody_elses() -> None:
    fields = {
        "n:a": "F|1|1|0|1|9", "f:a": failure("a", "second"),
        "n:b": "F|2|2|0|1|8", "f:b": failure("b", "first"),
        "n:c": "K|1|1|0|1|5", "f:c": failure("c", "caught"),
        "n:d": "T|2|1|0|1", "f:d": failure("d", "for now"),
        "f1": "b",
    }  # fmt: skip
    found = record(fields, doc("a", "b", "c", "d"), st="failed").snapshot()
    assert [reported.message for reported in found.failures] == ["first", "second"]
    first = found.failures[0]
    assert (first.node_id, first.attempt, first.type, first.retryable, first.at) == ("b", 2, "app.Boom", False, at(50))
    assert first.details == {"price": Decimal("1.10")}
    error = found.nodes["d"].error
    assert error is not None
    assert error.message == "for now"


def test_cancel_children_memo_and_deadline() -> None:
    fields = {
        "cx": json.dumps({"reason": "enough", "at": int(CR) + 5, "grace": 1500}),
        "forced": "1", "memo": {"of": "ann"}, "dl": str(int(CR) + 1000),
        "k:r1~1": "a", "k:r1~2": "b", "k:r1~10": "a", "n:a": "W|1|1|0|3|subflow",
    }  # fmt: skip
    found = record(fields, doc("a", "b"), st="cancelling").snapshot()
    assert found.cancel is not None
    assert (found.cancel.reason, found.cancel.requested_at, found.cancel.grace, found.cancel.forced) == (
        "enough",
        at(5),
        1.5,
        True,
    )
    assert (found.memo, found.deadline) == ({"of": "ann"}, at(1000))
    assert found.children == ("r1~1", "r1~2", "r1~10")
    assert found.nodes["a"].child_run_id == "r1~10"
    assert record({}).snapshot().cancel is None


def test_waiting_points() -> None:
    fields = {
        "n:a": "W|1|1|0|3|signal", "w:a": {"prompt": "Sure?", "actions": ["yes", "no"]},
        "n:b": "W|1|1|0|4|timer", "w:b": None,
        "n:c": "W|1|1|0|5|subflow", "w:c": "r1~1", "k:r1~1": "c",
        "n:d": "W|1|1|0|6|batch", "n:e": "W|1|1|0|6|fallback", "n:f": "L|1|1|0|7",
    }  # fmt: skip
    found = record(fields, doc(*"abcdef"), st="waiting").snapshot().waiting
    assert [(point.node_id, point.kind, point.since) for point in found] == [
        ("a", "signal", at(3)), ("b", "timer", at(4)), ("c", "subflow", at(5)),
    ]  # fmt: skip
    assert (found[0].prompt, found[0].actions, found[2].child_run_id) == ("Sure?", ["yes", "no"], "r1~1")


CONTEXT = {
    "c:post": "text",
    "c:_private": 1,
    "c:sum": Decimal("2"),
    "o:a": {"v": [1, {"w": 2}]},
    "o:b": None,
    "n:a": "C|1|1",
    "n:b": "C|1|1|0|2|3",
}
EDGES = [{"source": "a", "target": "b"}]


def test_the_public_context_is_keys_and_outputs_without_underscores() -> None:
    fields = {**CONTEXT, "c:post": '"text"'}
    found = record(fields, doc("a", "b", edges=EDGES), st="completed").snapshot(ctx=True, outputs=True)
    public = {"post": "text", "sum": Decimal("2"), "a": {"v": [1, {"w": 2}]}, "b": None}
    assert found.output == public
    assert found.ctx == {
        **public,
        "_private": 1,
        "_outputs.a": {"v": [1, {"w": 2}]},
        "_outputs.b": None,
        "_inputs.b": {"v": [1, {"w": 2}]},
    }
    assert found.nodes["a"].output == {"v": [1, {"w": 2}]}
    bare = record(fields, doc("a", "b", edges=EDGES), st="completed").snapshot()
    assert (bare.ctx, bare.output, bare.nodes["a"].output) == (None, None, None)


def test_a_written_key_comes_before_the_output_of_a_node_of_that_name() -> None:
    found = record({"o:a": 1, "c:a": 2}).context()
    assert (found["a"], found["_outputs.a"]) == (2, 1)
    assert record({"o:a": 1, "c:_outputs.a": 3}).context()["_outputs.a"] == 3


def test_outputs_are_reported_even_when_the_plan_is_gone() -> None:
    found = RunRecord("r1", {"bp": "b", "plan": "h", "st": "completed", "cr": CR, "o:a": "1", "c:k": "2"}, None)
    assert found.result() == {"a": 1, "k": 2}
    assert found.snapshot().nodes == {}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"x": "a"}, {"x": {"v": [1, {"w": 2}]}}),
        ({"x": "a.v.1.w", "y": "a.v.0"}, {"x": 2, "y": 1}),
        ({"x": "a.v.9", "y": "a.no.where", "z": "nothing", "w": "sum.x"}, {"x": None, "y": None, "z": None, "w": None}),
        ({"x": "_outputs.a", "y": "_private"}, {"x": {"v": [1, {"w": 2}]}, "y": 1}),
        ({"x": "_inputs.b"}, {"x": {"v": [1, {"w": 2}]}}),
        ({}, {}),
    ],
)
def test_declared_outputs_are_paths_into_the_context(outputs: dict[str, str], expected: dict[str, Any]) -> None:
    fields = {**CONTEXT, "c:post": '"text"'}
    assert record(fields, doc("a", "b", edges=EDGES, outputs=outputs), st="completed").result() == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"o:a": 1, "o:b": 2, "j:c": "tt"}, 2),
        ({"o:a": 1, "o:b": 2, "j:c": "td"}, 1),
        ({"o:a": 1, "x:b>1": 5, "j:c": "tt"}, 5),
        ({"o:a": 1, "s:a": 7, "j:c": "td"}, 7),
        ({"o:a": 1, "j:c": "uu", "n:c": "R|1|0|0|5|q"}, None),
        ({"o:a": 1, "j:c": "dd"}, None),
    ],
)
def test_an_input_is_what_the_last_taken_edge_brought(fields: dict[str, Any], expected: Any) -> None:
    edges = [
        {"source": "b", "target": "other"},
        {"source": "a", "target": "c"},
        {"source": "b", "target": "c", **({"transform": "t"} if "x:b>1" in fields else {})},
    ]
    found = record({"n:c": "C|1|1|0|5|6", **fields}, doc("a", "b", "c", "other", edges=edges)).context()
    assert found.get("_inputs.c") == expected


@pytest.mark.parametrize(
    ("entry", "kind", "node", "data"),
    [
        ("B|0||", "run_started", None, {}),
        ("s|5|a|1|w1", "node_started", "a", {"attempt": 1, "worker": "w1"}),
        ("s|50|a|2|w1|8", "node_started", "a", {"attempt": 2, "worker": "w1", "ready_at": at(8)}),
        ("s|5|a|1|", "node_started", "a", {"attempt": 1, "worker": ""}),
        ("c|6|a|", "node_completed", "a", {"action": None}),
        ("c|6|a#2|approve", "node_completed", "a#2", {"action": "approve"}),
        ("r|7|a|2|500", "node_retrying", "a", {"attempt": 2, "delay": 0.5}),
        (
            'r|7|a|2|500|{"type":"KeyError","message":"a|b","input":"5feb"}',
            "node_retrying",
            "a",
            {"attempt": 2, "delay": 0.5, "error": {"type": "KeyError", "message": "a|b", "input_hash": "5feb"}},
        ),
        ("f|8|a|3", "node_failed", "a", {"attempt": 3}),
        (
            'f|8|a|3|{"type":"WorkerLost","message":"m"}',
            "node_failed",
            "a",
            {"attempt": 3, "error": {"type": "WorkerLost", "message": "m"}},
        ),
        ("u|9|a|1|w1|8", "node_resumed", "a", {"attempt": 1, "worker": "w1", "ready_at": at(8)}),
        ("K|9|a|b|yes", "node_recovered", "a", {"fallback": "b", "action": "yes"}),
        ("h|9|a|w1", "node_handed_back", "a", {"worker": "w1"}),
        ("t|9|a|2|w1", "node_taken_over", "a", {"crashes": 2, "worker": "w1"}),
        ("k|9|a|", "node_skipped", "a", {}),
        ("w|9|a|signal", "node_waiting", "a", {"kind": "signal"}),
        ("x|9|a|", "node_cancelled", "a", {}),
        ("t|9|a|1", "node_taken_over", "a", {"crashes": 1}),
        ('g|9|a|[0.5,"a|b"]', "node_progress", "a", {"fraction": 0.5, "message": "a|b"}),
        ('e|9|a[3]|seen|{"$decimal":"1.5"}', "custom", "a[3]", {"name": "seen", "data": Decimal("1.5")}),
        ("i|9|a|yes", "signal_received", "a", {"action": "yes"}),
        ("X|9||a|reason", "cancel_requested", None, {"reason": "a|reason"}),
        ("a|9|call#1|r~1", "child_abandoned", "call#1", {"child_run_id": "r~1"}),
        ("A|9||timeout", "parent_stopped", None, {"cause": "timed_out"}),
        ("A|9||node", "parent_stopped", None, {"cause": "node_given_up"}),
        ("E|9||completed", "run_ended", None, {"status": "completed"}),
        ("?|9|a|what", "unknown", "a", {}),
    ],
)
def test_events(entry: str, kind: str, node: str | None, data: dict[str, Any]) -> None:
    found = parse_event(17, entry, float(CR))
    assert (found.id, found.type, found.node_id, dict(found.data)) == ("17", kind, node, data)
    assert found.at == at(int(entry.split("|")[1]))
