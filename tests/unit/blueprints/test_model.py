"""The model: the plain form and back, and durations."""

import json

import pytest

from flowcraft_server.blueprints.durations import parse_duration_ms
from flowcraft_server.blueprints.model import Blueprint, Diagnostic, Edge, Node, NodeConfig, RetryDelay, SourcePosition

FULL = Blueprint(
    id="full",
    nodes=(
        Node("a", "echo"),
        Node(
            "b",
            "add",
            params={"n": 1, "deep": {"list": [1, {"x": None}]}},
            inputs={"x": "a", "y": "a.z"},
            config=NodeConfig(
                max_retries=3,
                retry_delay=RetryDelay(1000, 2.0, 60_000, 0.2),
                timeout_ms=5000,
                fallback="c",
                join="any",
                queue="io",
                non_retryable=("ValueError", "app.Fatal"),
                on_item_error="collect",
                on_parent_cancel="abandon",
            ),
        ),
        Node("c", "echo", inputs="a", config=NodeConfig(retry_delay=RetryDelay(500))),
    ),
    edges=(Edge("a", "b", "yes", "result.output > 1", "input.x"), Edge("b", "c")),
    description="All of it.",
    inputs_contract={"topic": {"type": "string", "default": "x"}},
    outputs={"answer": "b.text"},
    on_failure="continue",
    cycle_entry_points=("a",),
    metadata={"version": "2"},
)


def test_the_plain_form_is_json_in_the_words_of_the_original() -> None:
    plain = FULL.to_plain()
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain) == ["id", "description", "inputs", "outputs", "onFailure", "metadata", "nodes", "edges"]
    assert plain["nodes"][1]["config"] == {
        "maxRetries": 3,
        "retryDelay": {"initial": 1000, "factor": 2.0, "max": 60_000, "jitter": 0.2},
        "timeout": 5000,
        "fallback": "c",
        "joinStrategy": "any",
        "queue": "io",
        "nonRetryable": ["ValueError", "app.Fatal"],
        "onItemError": "collect",
        "onParentCancel": "abandon",
    }
    assert plain["nodes"][2]["config"] == {"retryDelay": 500}
    assert plain["metadata"] == {"version": "2", "cycleEntryPoints": ["a"]}


def test_from_plain_is_the_inverse() -> None:
    assert Blueprint.from_plain(FULL.to_plain()) == FULL
    assert Blueprint.from_plain(json.loads(json.dumps(FULL.to_plain()))) == FULL


def test_what_is_not_set_is_left_out() -> None:
    small = Blueprint("small", (Node("a", "echo"),))
    assert small.to_plain() == {"id": "small", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
    assert Blueprint.from_plain(small.to_plain()) == small


def test_an_empty_contract_is_not_the_same_as_none() -> None:
    closed = Blueprint("closed", (Node("a", "echo"),), inputs_contract={}, outputs={})
    assert Blueprint.from_plain(closed.to_plain()) == closed
    assert closed.to_plain()["inputs"] == {}


def test_the_plain_form_shares_nothing_with_the_model() -> None:
    plain = FULL.to_plain()
    plain["nodes"][1]["params"]["deep"]["list"].append("more")
    plain["metadata"]["cycleEntryPoints"].append("b")
    assert Blueprint.from_plain(FULL.to_plain()) == FULL


def test_places_do_not_make_a_difference() -> None:
    assert Edge("a", "b", place="edges[0]") == Edge("a", "b")
    assert Blueprint("a", (), file="x.yaml") == Blueprint("a", ())


def test_a_problem_reads_as_one_line() -> None:
    diagnostic = Diagnostic("error", SourcePosition("b.yaml", 3, 7), "nodes.a.uses", "no handler 'x'")
    assert str(diagnostic) == "b.yaml:3:7   nodes.a.uses: no handler 'x'"
    assert str(Diagnostic("warning", None, "", "odd")) == "odd   [warning]"


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (0, 0), (1500, 1500), (2.6, 3), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000),
        ("1d", 86_400_000), ("1.5s", 1500), (" 3 s ", 3000), ("0s", 0), ("3w", 1_814_400_000),
        ("1h30m", 5_400_000),
    ],
)  # fmt: skip
def test_durations(written: object, milliseconds: int) -> None:
    assert parse_duration_ms(written) == milliseconds


@pytest.mark.parametrize(
    "written",
    [True, None, "", "30", "s", "-3s", -1, "3y", "1h30", "12:30", [], {}, float("nan")],
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 500ms"):
        parse_duration_ms(written)


@pytest.mark.parametrize("written", ["99999999d", "36526d", float("inf"), 10**30, 3_155_760_000_001])
def test_durations_have_a_bound(written: object) -> None:
    assert parse_duration_ms("36525d") == parse_duration_ms(3_155_760_000_000) == 3_155_760_000_000
    with pytest.raises(ValueError, match="a duration is 100 years at most"):
        parse_duration_ms(written)
