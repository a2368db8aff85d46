"""Blueprints as a part of a deployment: found, checked against its handlers, reported with the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft_server.config.load import LoadResult

Load = Callable[..., LoadResult]
Told = Callable[..., list[str]]

FILE = "handlers: {dump: 'json:dumps'}\nblueprints: {dirs: [flows]}\n"


@pytest.fixture
def flows(folder: Path) -> Path:
    place = folder / "flows"
    place.mkdir()
    (place / "good.yaml").write_text("nodes:\n  a: {uses: dump}\n  b: {uses: dump, needs: [a]}\n")
    return place


def test_blueprints_are_loaded(flows: Path, load: Load) -> None:
    result = load(FILE)
    assert result.diagnostics == []
    assert [blueprint.id for blueprint in result.blueprints] == ["good"]
    assert result.folder == flows.parent


def test_their_mistakes_follow_those_of_the_file(flows: Path, told: Told) -> None:
    (flows / "bad.yaml").write_text("nodes:\n  a: {uses: dumb}\nedges:\n  - {source: a, target: anylyze}\n")
    diagnostics = told(FILE + "executor: {workers: x}\n")
    assert diagnostics[0].startswith("flowcraft.yaml:3:21   executor.workers")
    assert [diagnostic.partition(":")[0] for diagnostic in diagnostics[1:]] == ["flows/bad.yaml"] * len(diagnostics[1:])
    assert any("did you mean 'dump'?" in diagnostic for diagnostic in diagnostics)


def test_a_handler_that_cannot_be_imported_is_not_unknown_to_its_blueprints(flows: Path, told: Told) -> None:
    (flows / "more.yaml").write_text("nodes:\n  a: {uses: other}\n")
    diagnostics = told("handlers: {dump: 'json:dumps', other: 'deployed_nowhere:f'}\nblueprints: {dirs: [flows]}\n")
    assert len(diagnostics) == 1
    assert "cannot import" in diagnostics[0]


def test_params_that_the_file_gives_to_a_handler_count_in_the_check_of_its_nodes(flows: Path, load: Load) -> None:
    (flows.parent / "deployed_params.py").write_text(
        "from pydantic import BaseModel\nfrom flowcraft_sdk import handler\n"
        "class Params(BaseModel):\n    url: str\n"
        "@handler(params=Params)\ndef f(ctx): pass\n"
    )
    (flows / "good.yaml").write_text(
        "nodes:\n  a: {uses: f}\n  b: {uses: map, needs: a, params: {uses: f}, inputs: a}\n"
    )
    text = "blueprints: {dirs: [flows]}\nhandlers: {f: {path: 'deployed_params:f', params: PARAMS}}\n"
    complete, empty = text.replace("PARAMS", "{url: u}"), text.replace("PARAMS", "{}")
    assert load(complete).errors == []
    assert [diagnostic.path for diagnostic in load(empty).errors] == ["nodes.a.params.url", "nodes.b.params.params.url"]


@pytest.mark.parametrize("params", ["[1]", "[]", "false", "text"])
def test_params_of_a_map_that_are_no_mapping_are_not_replaced(flows: Path, told: Told, params: str) -> None:
    (flows.parent / "deployed_map.py").write_text("def f(ctx): pass\n")
    (flows / "a.yaml").write_text(f"nodes:\n  m: {{uses: map, inputs: items, params: {{uses: f, params: {params}}}}}\n")
    said = told("blueprints: {dirs: [flows]}\nhandlers: {f: 'deployed_map:f'}\n")
    assert "nodes.m.params.params: expected a mapping" in "".join(said)


def test_a_folder_that_is_not_there(told: Told) -> None:
    assert told(FILE) == ["flowcraft.yaml:2:21   blueprints.dirs[0]: no folder 'flows' beside flowcraft.yaml"]


def test_a_worker_needs_no_blueprints(load: Load) -> None:
    assert load(FILE, with_blueprints=False).diagnostics == []


@pytest.mark.usefixtures("flows")
def test_the_default_join_reaches_the_nodes_that_name_none(load: Load) -> None:
    (blueprint,) = load(FILE + "defaults: {joinStrategy: any}\n").blueprints
    assert {node.config.join for node in blueprint.nodes} == {"any"}
    (blueprint,) = load(FILE).blueprints
    assert {node.config.join for node in blueprint.nodes} == {None}
