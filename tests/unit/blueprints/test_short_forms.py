"""`needs`, `next`, `call`, arrows, defaults and contracts compile to the plain form."""

from typing import Any

import pytest

from tests.unit.blueprints.registry import messages_of, read

THREE = "nodes: {a: {uses: echo}, b: {uses: echo}, c: {uses: echo}}\n"


def edges_of(text: str) -> list[tuple[Any, ...]]:
    return [(edge.source, edge.target, edge.action) for edge in read(text).edges]


@pytest.mark.parametrize(
    ("written", "edges"),
    [
        ("a -> b", [("a", "b", None)]),
        ("a->b", [("a", "b", None)]),
        ("a -> b -> c", [("a", "b", None), ("b", "c", None)]),
        ("a -[yes]-> b", [("a", "b", "yes")]),
        ("a -[ true ]-> b -> c", [("a", "b", "true"), ("b", "c", None)]),
        ("a -[go on - please]-> b", [("a", "b", "go on - please")]),
    ],
)
def test_arrows(written: str, edges: list[tuple[str, str, str | None]]) -> None:
    assert edges_of(f"{THREE}edges:\n  - {written}\n") == edges


def test_ids_with_dashes_and_spaces_in_arrows() -> None:
    text = "nodes: {step-1: {uses: echo}, step 2: {uses: echo}}\nedges: [step-1 -> step 2]\n"
    assert edges_of(text) == [("step-1", "step 2", None)]


@pytest.mark.parametrize(
    ("needs", "join"),
    [
        ("a", None),
        ("[a]", None),
        ("[a, b]", None),
        ("{any: [a, b]}", "any"),
        ("{any: a}", "any"),
        ("{all: [a, b]}", "all"),
    ],
)
def test_needs(needs: str, join: str | None) -> None:
    blueprint = read(f"nodes:\n  a: {{uses: echo}}\n  b: {{uses: echo}}\n  c: {{uses: echo, needs: {needs}}}\n")
    assert blueprint.nodes[2].config.join == join
    assert {(edge.source, edge.target) for edge in blueprint.edges} <= {("a", "c"), ("b", "c")}
    assert len(blueprint.edges) == (2 if "b" in needs else 1)


def test_next_by_action_keeps_the_text_of_the_key() -> None:
    text = 'nodes:\n  a: {uses: echo, next: {true: b, yes: b, on: [b, c], 1: c, 010: c, "*": c}}\n  b: {uses: echo}\n  c: {uses: echo}\n'
    assert edges_of(text) == [
        ("a", "b", "true"), ("a", "b", "yes"), ("a", "b", "on"), ("a", "c", "on"), ("a", "c", "1"), ("a", "c", "010"),
        ("a", "c", None),
    ]  # fmt: skip


@pytest.mark.parametrize("written", ["true", "True", "yes", "on", "1", "010", "1.50", '"true"'])
def test_actions_of_edges_keep_their_text(written: str) -> None:
    text = f"{THREE}edges:\n  - {{source: a, target: b, action: {written}}}\n"
    assert edges_of(text) == [("a", "b", written.strip('"'))]


def test_next_without_actions() -> None:
    text = "nodes:\n  a: {uses: echo, next: [b, c]}\n  b: {uses: echo, next: c}\n  c: {uses: echo}\n"
    assert edges_of(text) == [("a", "b", None), ("a", "c", None), ("b", "c", None)]


def test_forms_may_be_mixed() -> None:
    text = (
        "nodes:\n  a: {uses: route, next: {yes: b}}\n  b: {uses: echo}\n  c: {uses: echo, needs: b}\n"
        "edges:\n  - a -[no]-> c\n  - {source: a, target: b, condition: result.output > 1}\n"
    )
    assert edges_of(text) == [("a", "b", "yes"), ("b", "c", None), ("a", "c", "no"), ("a", "b", None)]


def test_call_is_a_subflow() -> None:
    text = "nodes:\n  a: {call: 402, inputs: {x: y}, outputs: {r: s}, config: {timeout: 5s}}\n  b: {call: child, inputs: a, needs: a}\n"
    blueprint = read(text)
    assert blueprint.nodes[0].to_plain() == {
        "id": "a",
        "uses": "subflow",
        "params": {"blueprintId": "402", "inputs": {"x": "y"}, "outputs": {"r": "s"}},
        "config": {"timeout": 5000},
    }
    assert blueprint.nodes[1].to_plain() == {
        "id": "b", "uses": "subflow", "params": {"blueprintId": "child"}, "inputs": "a",
    }  # fmt: skip


def test_map_stays_a_node() -> None:
    node = read(
        "nodes:\n  m: {uses: map, inputs: items, params: {uses: double, params: {by: 2}, chunkSize: 4}}\n"
    ).nodes[0]
    assert (node.uses, node.inputs, node.params["uses"]) == ("map", "items", "double")


def test_defaults_complete_a_config() -> None:
    text = (
        "defaults: {timeout: 60s, maxRetries: 2, retryDelay: {initial: 500ms, factor: 2}, nonRetryable: ValueError}\n"
        "nodes:\n  a: {uses: echo}\n  b: {uses: echo, config: {timeout: 1s, retryDelay: 0, nonRetryable: [KeyError]}}\n"
    )
    first, second = read(text).nodes
    assert first.config.to_plain() == {
        "maxRetries": 2, "retryDelay": {"initial": 500, "factor": 2}, "timeout": 60_000, "nonRetryable": ["ValueError"],
    }  # fmt: skip
    assert second.config.to_plain() == {
        "maxRetries": 2, "retryDelay": 0, "timeout": 1000, "nonRetryable": ["KeyError"],
    }  # fmt: skip


def test_needs_any_counts_before_the_default_join() -> None:
    text = "defaults: {joinStrategy: all}\nnodes: {a: {uses: echo}, b: {uses: echo, needs: {any: [a]}}}\n"
    assert [node.config.join for node in read(text).nodes] == ["all", "any"]


def test_contracts() -> None:
    text = (
        "inputs:\n  topic: string\n  n: {type: integer, default: 3, description: how many}\n  free:\n"
        "  mode: {enum: [fast, slow], required: false}\n  none: {type: object, default: null}\n  many: list\n"
        "outputs: {answer: a.text}\nnodes: {a: {uses: echo}}\n"
    )
    blueprint = read(text)
    assert blueprint.inputs_contract == {
        "topic": {"type": "string"},
        "n": {"type": "integer", "default": 3, "description": "how many"},
        "free": {"type": "any"},
        "mode": {"type": "any", "enum": ["fast", "slow"], "required": False},
        "none": {"type": "object", "default": None},
        "many": {"type": "list"},
    }
    assert blueprint.outputs == {"answer": "a.text"}


def test_contracts_as_lists() -> None:
    blueprint = read("inputs: [topic, tone]\noutputs: [a, topic]\nnodes: {a: {uses: echo}}\n")
    assert blueprint.inputs_contract == {"topic": {"type": "any"}, "tone": {"type": "any"}}
    assert blueprint.outputs == {"a": "a", "topic": "topic"}


def test_tests_are_kept_aside() -> None:
    blueprint = read(
        "nodes: {a: {uses: echo}}\ntests:\n  - {name: works, input: {x: 1}, expect: {status: completed}}\n"
    )
    assert blueprint.tests == ({"name": "works", "input": {"x": 1}, "expect": {"status": "completed"}},)
    assert "tests" not in blueprint.to_plain()
    position = blueprint.positions.of(("tests", 0, "expect", "status"))
    assert position is not None
    assert position.line == 3


def test_numbers_as_ids() -> None:
    text = "id: 400\nnodes:\n  1: {uses: echo}\n  2: {uses: echo, needs: 1, inputs: 1, config: {fallback: 3}}\n  3: {uses: subflow, params: {blueprintId: 401}}\n"
    blueprint = read(text)
    assert blueprint.id == "400"
    assert [node.id for node in blueprint.nodes] == ["1", "2", "3"]
    assert (blueprint.nodes[1].inputs, blueprint.nodes[1].config.fallback) == ("1", "3")
    assert blueprint.nodes[2].params == {"blueprintId": "401"}


def test_lists_of_nodes_may_use_short_forms() -> None:
    text = "nodes:\n  - {id: a, uses: echo, next: b}\n  - {id: b, uses: echo}\n"
    assert edges_of(text) == [("a", "b", None)]


def test_edges_that_are_written_in_two_ways_name_both_places() -> None:
    shown = messages_of("nodes:\n  a: {uses: echo}\n  b: {uses: echo, needs: [a]}\nedges: [a -> b]\n")
    assert shown == [
        "edges[0]: the edge 'a' -> 'b' is there already by nodes.b.needs (line 3); write it in one of the ways"
    ]
