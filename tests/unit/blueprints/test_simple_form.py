"""What is read without noting places is what the full reading makes of the same text, and so are the places that are found later."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk._config.include import Includes
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading import late_places, loader
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.loading.simple_form import NotSimple
from flowcraft_server.blueprints.model import Blueprint

USUAL_NODES = (
    '"uses": "echo"',
    '"uses":"route", "inputs": "a"',
    '"uses": "echo", "inputs": {"x": "a", "y": "b.c"}',
    '"uses": "echo", "params": {"n": 1.50, "m": [1e3, -0, {"deep": null}], "t": "\\u00e9\\n"}',
    '"uses": "echo", "config": {"maxRetries": 3, "fallback": "b", "retryDelay": {"initial": "1s"}}',
    '"uses": "echo", "config": {}, "params": {}, "inputs": "a b"',
    '"uses": "batch-scatter", "inputs": "items", "params": {"workerUsesKey": "echo", "gatherNodeId": "b"}',
)
OTHER_NODES = (
    '"uses": 7, "inputs": 1',
    '"uses": "sleep", "params": {"duration": 1500}',
    '"uses": "echo", "inputs": {"x": {"value": [1, {"a": 2}]}, "y": 3}',
    '"type": "echo", "data": {"a": 1}, "position": {"x": 1, "y": 2}',
    '"uses": "echo", "label": "A", "x-y": {"z": 1}',
    '"call": "other", "inputs": {"a": "b"}, "outputs": {"c": "d"}',
    '"uses": "subflow", "params": {"blueprintId": "x", "inputs": {"a": "b"}}',
    '"uses": "map", "inputs": "items", "params": {"call": 12}',
    '"uses": "echo", "needs": ["a", "b"]',
    '"uses": "echo", "needs": {"any": "a"}, "next": {"yes": "b", "*": "c"}',
    '"uses": null, "params": null, "inputs": null, "config": null',
    '"uses": ""',
    '"uses": "echo", "uses": "echo"',
    '"usess": "echo"',
    '"uses": "echo", "inputs": " "',
    '"uses": "echo", "inputs": {"a": ""}',
    '"uses": "echo", "params": {"a": NaN}',
    '"uses": "echo", "params": {"a": 1e999}',
    '"uses": "echo", "params": {"a": "\\ud83d\\ude00", "b": "\\\\ud83d"}',
    '"uses": "echo", "params": {"a": "\\ud83d"}',
    '"uses": "echo", "params": {"a": "\\\\ud83d\\ude00"}',
    '"uses": "echo", "params": {"a": 012}',
    '"uses": "echo", "params": [1]',
    '"uses": "echo", "config": {"timeout": "soon"}',
    '"uses": "echo", "config": {"fallbck": "a"}',
    '"uses": "echo", "params": {"deep": ' + "[" * 97 + "]" * 97 + "}",
    '"uses": "echo", "params": {"deep": ' + "[" * 98 + "]" * 98 + "}",
    '"uses": "echo", "params": {"deep": ' + "[" * 3000 + "]" * 3000 + "}",
    '"uses": "echo", // no',
)
IDS = ('"a"', '"b"', '"c"', '"größe"', '"next one"', "12", '""', '" a"', '"x#y"', '"a\\u0062"')
USUAL_EDGES = (
    '{"source": "a", "target": "b"}',
    '{ "target" :\n"b","source":"a","action":"yes" }',
    '{"source": "b", "target": "c", "condition": "result.output > 1", "transform": "result.output"}',
)
OTHER_EDGES = (
    '"a -> b"',
    '"a -> b -> c"',
    '"a -[yes]-> b"',
    '{"source": "a", "target": "b", "action": ""}',
    '{"source": "a", "target": "b", "condition": null}',
    '{"source": 12, "target": "b"}',
    '{"source": "a", "target": "b", "id": "e1", "animated": true}',
    '{"source": "a", "target": "b", "kind": "c"}',
    '{"source": "a"}',
    '{"a": "b"}',
    "null",
    "[]",
    '{"source": "a", "target": ""}',
)
TOPS = (
    '"id": "one"',
    '"id": 7',
    '"description": "\\u00fc"',
    '"metadata": {"version": 1.0, "cycleEntryPoints": ["a"]}',
    '"inputs": {"n": {"type": "number", "default": 1}, "m": "string"}',
    '"outputs": {"x": "a"}',
    '"defaults": {"timeout": 1000, "maxRetries": 2}',
    '"finally": ["a"]',
    '"finally": [{"id": "z", "uses": "echo"}]',
    '"tests": [{"name": "t", "mocks": {"a": {"output": 1}}, "expect": {"ran": ["a"]}}]',
    '"name": "editor"',
    '"nods": 1',
    '"stray": {"uses": "echo"}',
    '"x-stray": {"uses": "echo"}',
    '"onFailure": "stp"',
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Blueprints: with usual parts alone, or with others among them."""
    usual = draw(st.booleans())
    nodes = st.sampled_from(USUAL_NODES if usual else USUAL_NODES + OTHER_NODES)
    edges = st.sampled_from(USUAL_EDGES if usual else USUAL_EDGES + OTHER_EDGES)
    ids = draw(st.lists(st.sampled_from(IDS[:4] if usual else IDS), max_size=4, unique=usual))
    space = draw(st.sampled_from(("", " ", "\n", "\r\n  ")))
    if draw(st.booleans()):
        inside = [f"{space}{node_id}{space}:{{{draw(nodes)}}}{space}" for node_id in ids]
        written = f"{{{','.join(inside)}{space}}}"
    else:
        inside = [f'{space}{{{space}"id":{node_id},{draw(nodes)}}}' for node_id in ids]
        written = f"[{','.join(inside)}{space}]"
    tops = draw(st.lists(st.sampled_from(TOPS[:10] if usual else TOPS), max_size=3, unique=True))
    parts = [*tops, f'{space}"nodes":{space}{written}']
    if draw(st.booleans()):
        parts.append(f'"edges":{space}[{f",{space}".join(draw(st.lists(edges, max_size=3)))}]')
    return f"{space}{{{','.join(draw(st.permutations(parts)))}{space}}}{space}"


def in_full(text: str) -> tuple[Blueprint | None, list[Any]]:
    """What the full reading makes of a text."""
    return loader._load_in_full(text, "b.json", "default", "json", Includes(None))


@settings(max_examples=500, deadline=None)
@given(texts())
def test_both_ways_of_reading_agree(text: str) -> None:
    full, diagnostics = in_full(text)
    found, shown = load_text(text, "b.json", "default", "json")
    assert (found, shown) == (full, diagnostics)
    if found is None or full is None:
        return
    assert found.tests == full.tests
    assert (found.complete, found.nodes_known) == (full.complete, full.nodes_known)
    assert [edge.place for edge in found.edges] == [edge.place for edge in full.edges]
    for path in [*full.positions.values, *full.positions.keys, *full.positions.written, ("nodes", "?"), ("edges", 99)]:
        for place in (path, (*path, "further", 1)):
            assert found.positions.of(place) == full.positions.of(place)
            assert found.positions.of_key(place) == full.positions.of_key(place)
            assert found.positions.shown(place) == full.positions.shown(place)
            assert (place in found.positions.values) == (place in full.positions.values)
    assert found.positions == full.positions
    assert lint(found, handlers={}, blueprints={}, max_attempts=1) == lint(
        full, handlers={}, blueprints={}, max_attempts=1
    )


@pytest.mark.parametrize("top", TOPS)
def test_both_agree_on_other_keys(top: str) -> None:
    text = f'{{{top}, "nodes": {{"a": {{"uses": "echo"}}}}}}'
    assert load_text(text, "b.json", "default", "json") == in_full(text)


@pytest.mark.parametrize("node", USUAL_NODES)
@pytest.mark.parametrize("edge", USUAL_EDGES)
def test_usual_parts_are_read_without_places(node: str, edge: str) -> None:
    text = f'{{"nodes": [{{"id": "a", {node}}}], "edges": [{edge}]}}'
    assert loader._load_simply(text, "b.json", "default", "json") == in_full(text)[0]


@pytest.mark.parametrize("node", [node for node in OTHER_NODES if in_full(f'{{"nodes": {{"a": {{{node}}}}}}}')[1]])
def test_what_is_wrong_is_read_in_full(node: str) -> None:
    with pytest.raises(NotSimple):
        loader._load_simply(f'{{"nodes": {{"a": {{{node}}}}}}}', "b.json", "default", "json")


def test_places_of_a_few_nodes_are_found_without_reading_all(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"id": f"n{index}", "uses": "echo", "params": {"p": [index]}} for index in range(20)]
    text = json.dumps({"id": "b", "nodes": nodes, "edges": [{"source": "n0", "target": "n1"}]}, indent=1)
    full, _ = in_full(text)
    blueprint, _ = load_text(text, "b.json", "default", "json")
    assert blueprint is not None and full is not None
    monkeypatch.setattr(loader, "_load_in_full", lambda *_: pytest.fail("all was read"))
    for path in (("nodes", "n7", "params", "p", 0), ("edges", 0, "target"), ("id",), ("nodes", "none")):
        assert blueprint.positions.of(path) == full.positions.of(path)


def test_places_of_many_nodes_are_found_by_reading_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_places, "MOST_PARTS", 3)
    text = json.dumps({"nodes": [{"id": f"n{index}", "uses": "echo"} for index in range(20)]})
    full, _ = in_full(text)
    blueprint, _ = load_text(text, "b.json", "default", "json")
    assert blueprint is not None and full is not None
    for path in full.positions.values:
        assert blueprint.positions.of(path) == full.positions.of(path)
