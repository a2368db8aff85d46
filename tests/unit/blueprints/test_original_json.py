"""Blueprints as the TypeScript original and the editors around it write them load unchanged."""

import json
from typing import Any

import pytest

from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.model import Blueprint, RetryDelay
from tests.unit.blueprints.registry import read


def read_json(value: Any, **options: Any) -> Blueprint:
    return read(json.dumps(value, indent="\t"), format="json", **options)


PLAIN = {
    "nodes": [
        {"id": "a", "uses": "echo", "params": {"promptTemplate": "Hi {{name}}\n", "inputs": {"name": ["x", "y"]}}},
        {"id": "b", "uses": "echo", "inputs": {"p": "a", "q": "_outputs.a"}, "config": {"joinStrategy": "any"}},
    ],
    "edges": [{"source": "a", "target": "b", "action": "true"}],
}


def test_the_plain_form_comes_back_as_it_was() -> None:
    assert read_json(PLAIN, default_id="300").to_plain() == {"id": "300", **PLAIN}


def test_tabs_indent_and_places_are_right() -> None:
    blueprint = read_json(PLAIN)
    position = blueprint.positions.of(("nodes", "b", "config", "joinStrategy"))
    assert position is not None
    assert json.dumps(PLAIN, indent="\t").split("\n")[position.line - 1][position.column - 1 :] == '"any"'
    edge = blueprint.positions.of(("edges", 0, "action"))
    assert edge is not None
    assert json.dumps(PLAIN, indent="\t").split("\n")[edge.line - 1][edge.column - 1 :] == '"true"'


def test_nodes_and_edges_may_be_keyed_by_id() -> None:
    keyed = {
        "id": "keyed",
        "nodes": {node["id"]: {k: v for k, v in node.items() if k != "id"} for node in PLAIN["nodes"]},
        "edges": {"e1": {**PLAIN["edges"][0], "id": "e1"}},
    }
    assert read_json(keyed).to_plain() == {"id": "keyed", **PLAIN}
    with_ids = {**keyed, "nodes": {node["id"]: node for node in PLAIN["nodes"]}}
    assert read_json(with_ids) == read_json(keyed)


def test_what_editors_add_is_left_out() -> None:
    drawn = {
        "name": "My flow", "viewport": {"x": 1}, "$schema": "x", "x-owner": "me", "_sourceLocation": {"line": 1},
        "nodes": [
            {
                **node, "type": "custom", "data": {"label": "A", "uses": "other"}, "position": {"x": 1, "y": 2},
                "measured": {"width": 3}, "width": 10, "height": 20, "selected": False, "dragging": False, "label": "A",
                "style": {"color": "red"}, "positionAbsolute": {"x": 1}, "_sourceLocation": {"file": "a.ts"}, "metadata": {},
                "x-note": 1,
            }
            for node in PLAIN["nodes"]
        ],
        "edges": [
            {
                **edge, "id": "e1", "type": "smoothstep", "animated": True, "markerEnd": {"type": "arrow"}, "label": "yes",
                "sourceHandle": "s", "targetHandle": None, "style": {}, "data": {}, "x-note": 1,
            }
            for edge in PLAIN["edges"]
        ],
    }  # fmt: skip
    assert read_json(drawn, default_id="p") == Blueprint.from_plain({"id": "p", **PLAIN})


def test_an_editor_that_nobody_knows_gets_warnings_only() -> None:
    node = {"id": "a", "uses": "echo", "flavour": {"x": 1}}
    blueprint, diagnostics = load_text(json.dumps({"nodes": [node], "quux": 1}), "p.json", "p", "json")
    assert blueprint is not None
    assert blueprint.to_plain() == {"id": "p", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
    assert [diagnostic.severity for diagnostic in diagnostics] == ["warning", "warning"]


def test_blank_words_of_an_edge_are_none() -> None:
    edge = {"source": "a", "target": "b", "action": "", "condition": "", "transform": None}
    blueprint = read_json({**PLAIN, "edges": [edge]})
    assert blueprint.edges[0].to_plain() == {"source": "a", "target": "b"}


def test_metadata_and_entry_points() -> None:
    metadata = {"version": "1.2.0", "cycleEntryPoints": ["b"], "owner": {"team": "x"}}
    blueprint = read_json({**PLAIN, "metadata": metadata})
    assert blueprint.cycle_entry_points == ("b",)
    assert blueprint.metadata == {"version": "1.2.0", "owner": {"team": "x"}}
    assert blueprint.to_plain()["metadata"] == metadata


def test_numbers_in_a_config_are_milliseconds() -> None:
    node = {"id": "a", "uses": "echo", "config": {"maxRetries": 3, "retryDelay": 1000, "timeout": 60000}}
    config = read_json({"nodes": [node]}).nodes[0].config
    assert (config.max_retries, config.retry_delay, config.timeout_ms) == (3, RetryDelay(1000), 60_000)


class TestTheOlderForm:
    def test_type_and_data_stand_for_uses_and_params(self) -> None:
        older = {
            "nodes": [
                {
                    "id": "a",
                    "type": "llm-process",
                    "data": {"promptTemplate": "x", "inputs": {"k": "k"}},
                    "position": {},
                },
                {"id": "b", "type": "output", "config": {"joinStrategy": "any"}, "inputs": "a"},
            ],
            "edges": [{"source": "a", "target": "b"}],
        }
        assert read_json(older).to_plain()["nodes"] == [
            {"id": "a", "uses": "llm-process", "params": {"promptTemplate": "x", "inputs": {"k": "k"}}},
            {"id": "b", "uses": "output", "inputs": "a", "config": {"joinStrategy": "any"}},
        ]

    @pytest.mark.parametrize("called", [301, "301"])
    def test_a_sub_workflow_is_a_subflow(self, called: object) -> None:
        data = {"workflowId": called, "inputs": {"summary": "s"}, "outputs": {"reply": "final_output"}}
        blueprint = read_json({"nodes": [{"id": "a", "type": "sub-workflow", "data": data}]})
        assert blueprint.nodes[0].uses == "subflow"
        assert blueprint.nodes[0].params == {
            "blueprintId": "301", "inputs": {"summary": "s"}, "outputs": {"reply": "final_output"},
        }  # fmt: skip
        assert blueprint.positions.of_key(("nodes", "a", "params", "blueprintId")) is not None

    def test_uses_wins_over_type(self) -> None:
        node = {"id": "a", "uses": "echo", "type": "custom", "data": {"x": 1}}
        assert read_json({"nodes": [node]}).to_plain()["nodes"] == [{"id": "a", "uses": "echo"}]


def test_texts_of_all_kinds() -> None:
    texts = ["\u00e9\U0001f600", 'tab\tquote"back\\slash/', "\u2028", "\x7f", "a\x00b", ""]
    node = {"id": "a", "uses": "echo", "params": {"texts": texts, "n": [0, -1, 1.5, 1e3, True, None, {}, []]}}
    for ascii_only in (True, False):
        text = json.dumps({"nodes": [node]}, ensure_ascii=ascii_only)
        assert read(text, format="json").nodes[0].params == node["params"]
