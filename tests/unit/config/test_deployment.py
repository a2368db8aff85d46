"""Blueprints as a part of a deployment: found, checked against its handlers, reported with the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft_server.config.load import LoadResult

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

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


def test_their_mistakes_follow_those_of_the_file(flows: Path, reported: Reported) -> None:
    (flows / "bad.yaml").write_text("nodes:\n  a: {uses: dumb}\nedges:\n  - {source: a, target: anylyze}\n")
    diagnostics = reported(FILE + "executor: {workers: x}\n")
    assert diagnostics[0].startswith("flowcraft.yaml:3:21   executor.workers")
    assert [diagnostic.partition(":")[0] for diagnostic in diagnostics[1:]] == ["flows/bad.yaml"] * len(diagnostics[1:])
    assert any("did you mean 'dump'?" in diagnostic for diagnostic in diagnostics)


def test_a_handler_that_cannot_be_imported_is_not_unknown_to_its_blueprints(flows: Path, reported: Reported) -> None:
    (flows / "more.yaml").write_text("nodes:\n  a: {uses: other}\n")
    diagnostics = reported("handlers: {dump: 'json:dumps', other: 'deployed_nowhere:f'}\nblueprints: {dirs: [flows]}\n")
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
    # Reported once, where it stands, for all nodes that it reaches.
    assert list(map(str, load(text.replace("PARAMS", "{url: 5, ulr: u}")).errors)) == [
        "flowcraft.yaml:2:57   handlers.f.params.url: expected string, got 5 (handler 'f')",
        "flowcraft.yaml:2:60   handlers.f.params.ulr: handler 'f' has no such param; did you mean 'url'?",
    ]
    assert [diagnostic.path for diagnostic in load(empty).errors] == ["nodes.a.params.url", "nodes.b.params.params.url"]


@pytest.mark.parametrize("params", ["[1]", "[]", "false", "text"])
def test_params_of_a_map_that_are_no_mapping_are_not_replaced(flows: Path, reported: Reported, params: str) -> None:
    (flows.parent / "deployed_map.py").write_text("def f(ctx): pass\n")
    (flows / "a.yaml").write_text(f"nodes:\n  m: {{uses: map, inputs: items, params: {{uses: f, params: {params}}}}}\n")
    shown = reported("blueprints: {dirs: [flows]}\nhandlers: {f: 'deployed_map:f'}\n")
    assert "nodes.m.params.params: expected a mapping" in "".join(shown)


def test_a_folder_that_is_not_there(reported: Reported) -> None:
    assert reported(FILE) == ["flowcraft.yaml:2:21   blueprints.dirs[0]: no folder 'flows' beside flowcraft.yaml"]


def test_a_worker_needs_no_blueprints(load: Load) -> None:
    assert load(FILE, with_blueprints=False).diagnostics == []


@pytest.mark.usefixtures("flows")
def test_the_default_join_reaches_the_nodes_that_name_none(load: Load) -> None:
    (blueprint,) = load(FILE + "defaults: {joinStrategy: any}\n").blueprints
    assert {node.config.join for node in blueprint.nodes} == {"any"}
    (blueprint,) = load(FILE).blueprints
    assert {node.config.join for node in blueprint.nodes} == {None}


PICKY = """
from pydantic import BaseModel, model_validator
from flowcraft_sdk import handler
class Params(BaseModel):
    url: str
    size: int = 1
    inner: dict[str, int] = {}
    @model_validator(mode="after")
    def fits(self):
        if self.url == "big" and self.size < 5:
            raise ValueError("a big one has a size of 5 or more")
        return self
@handler(params=Params)
def f(ctx): pass
"""


@pytest.fixture
def picky(flows: Path) -> Path:
    (flows / "good.yaml").unlink()
    (flows.parent / "deployed_picky.py").write_text(PICKY)
    return flows / "flow.yaml"


def entry(params: str) -> str:
    return f"blueprints: {{dirs: [flows]}}\nhandlers:\n  f:\n    path: deployed_picky:f\n    params:\n{params}"


def test_params_of_the_file_that_are_wrong_are_reported_there_without_any_node(picky: Path, reported: Reported) -> None:
    assert reported(entry("      url: u\n      inner: {a: x}\n      sise: 3\n")) == [
        "flowcraft.yaml:7:18   handlers.f.params.inner.a: expected integer, got \"x\" (handler 'f')",
        "flowcraft.yaml:8:7   handlers.f.params.sise: handler 'f' has no such param; did you mean 'size'?",
    ]
    assert reported(entry("      url: u\n      sise: 3\n")) == [
        "flowcraft.yaml:7:7   handlers.f.params.sise: handler 'f' has no such param; did you mean 'size'?",
    ]
    assert reported(entry("      size: 3\n")) == []  # each node may give what is missing


def test_a_param_that_a_node_overrides_is_reported_at_the_one_that_counts(picky: Path, reported: Reported) -> None:
    picky.write_text("nodes:\n  a: {uses: f, params: {size: x}}\n  b: {uses: f, needs: a}\n")
    assert reported(entry("      url: u\n      size: 3\n")) == [
        "flows/flow.yaml:2:31   nodes.a.params.size: expected integer, got \"x\" (handler 'f')"
    ]
    picky.write_text("nodes:\n  a: {uses: f, params: {size: 4}}\n  b: {uses: f, needs: a}\n")
    assert reported(entry("      url: u\n      size: y\n")) == [
        "flowcraft.yaml:7:13   handlers.f.params.size: expected integer, got \"y\" (handler 'f')"
    ]


def test_what_only_both_together_make_wrong_is_reported_at_the_node(picky: Path, reported: Reported) -> None:
    picky.write_text("nodes:\n  a: {uses: f, params: {size: 4}}\n  b: {uses: f, needs: a, params: {size: 5}}\n")
    assert reported(entry("      url: big\n")) == [
        'flows/flow.yaml:2:24   nodes.a.params: a big one has a size of 5 or more, got {"url": "big", "size": 4} (handler \'f\')'
    ]
    picky.write_text("nodes:\n  a: {uses: f}\n")
    assert reported(entry("      url: big\n")) == [
        'flowcraft.yaml:6:7   handlers.f.params: a big one has a size of 5 or more, got {"url": "big"} (handler \'f\')'
    ]


def test_where_the_handlers_cannot_be_read_no_handler_is_reported_as_unknown(flows: Path, reported: Reported) -> None:
    for text, mistakes in (
        ("handlers: [json]\n", 1), ("handlerModules: json\n", 1), ("handlerModule: [json]\n", 1), ("handler: {dump: 'json:dumps'}\n", 1),
    ):  # fmt: skip
        found = reported(f"{text}blueprints: {{dirs: [flows]}}\n")
        assert len(found) == mistakes, found


def test_a_function_of_a_handler_module_without_its_decorator_is_reported(flows: Path, reported: Reported) -> None:
    (flows.parent / "deployed_bare.py").write_text(
        "from flowcraft_sdk import handler\n@handler\ndef dump(ctx): pass\ndef other(ctx): pass\n"
    )
    (flows / "more.yaml").write_text("nodes:\n  a: {uses: other}\n")
    assert reported("handlerModules: [deployed_bare]\nblueprints: {dirs: [flows]}\n") == [
        "flows/more.yaml:2:13   nodes.a.uses: no handler 'other': the function deployed_bare:other has no @handler before it"
    ]
