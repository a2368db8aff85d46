"""Shapes that people could write, by mistake or on purpose: twice as much of any takes no more than twice as long."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_shapes import SHAPES, child
from benchmarks.load import HANDLERS
from flowcraft_server.blueprints.analysis import analyze
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.difference import difference
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.mermaid import to_mermaid
from flowcraft_server.blueprints.model import Blueprint, Diagnostic
from flowcraft_server.blueprints.suggestions import nearest
from flowcraft_server.config.load import load_settings
from tests.unit.blueprints.test_sizes import lines_run

MOST = 2.4


def whole(text: str, called: Blueprint) -> list[Diagnostic]:
    """Read, check, and where nothing is wrong compile, analyze, draw and compare."""
    blueprint, diagnostics = load_text(text)
    if blueprint is None:
        return diagnostics
    diagnostics += lint(blueprint, handlers=HANDLERS, blueprints={"child": called})
    if not any(diagnostic.severity == "error" for diagnostic in diagnostics):
        compile_blueprint(blueprint)
        analyze(blueprint)
        to_mermaid(blueprint)
        difference(blueprint, blueprint)
    assert len("".join(map(str, diagnostics))) < 40 * len(text) + 4_000
    return diagnostics


@pytest.mark.parametrize("shape", list(SHAPES))
def test_twice_as_much_takes_twice_as_long(shape: str) -> None:
    def steps(count: int) -> int:
        text, called = json.dumps(SHAPES[shape](count)), Blueprint.from_plain(child(count))
        return lines_run(lambda: whole(text, called))

    steps(10)  # what is done once
    assert steps(600) / steps(300) < MOST


YAML = {
    "aliases": lambda n: (
        "x-a: &a {k: 1}\nnodes:\n" + "".join(f"  n{i}: {{uses: echo, params: *a}}\n" for i in range(n))
    ),
    "anchors": lambda n: "nodes:\n" + "".join(f"  n{i}: &a{i} {{uses: echo}}\n" for i in range(n)),
    "merge keys": lambda n: "x-a: &a {k: 1}\nnodes:\n  a:\n    uses: echo\n    params:\n" + "      <<: *a\n" * n,
    "merges of merges": lambda n: (
        "x-0: &m0 {k: 1}\n" + "".join(f"x-{i + 1}: &m{i + 1} {{<<: *m{i}, k{i}: 1}}\n" for i in range(n))
    ),
    "duplicate keys": lambda n: "nodes:\n" + "  n: {uses: echo}\n" * n,
    "unknown tags": lambda n: "nodes:\n" + "".join(f"  n{i}: !x {{uses: echo}}\n" for i in range(n)),
    "documents": lambda n: "---\nid: b\n" * n,
    "unknown keys": lambda n: "nodes:\n" + "".join(f"  n{i}: {{uses: echo, used{i}: 1}}\n" for i in range(n)),
    "a chain in one text": lambda n: "nodes: {a: {uses: echo}}\nedges:\n  - " + " -> ".join(f"n{i}" for i in range(n)),
    "needs": lambda n: "nodes:\n  a: {uses: echo, needs: [" + ",".join(f"n{i}" for i in range(n)) + "]}\n",
    "wrong kinds": lambda n: (
        "nodes:\n" + "".join(f"  n{i}: {{uses: [1], params: 3, inputs: [], config: 5}}\n" for i in range(n))
    ),
}


@pytest.mark.parametrize("name", list(YAML))
def test_twice_as_much_yaml_takes_twice_as_long(name: str) -> None:
    def steps(count: int) -> int:
        return lines_run(lambda: load_text(YAML[name](count)))

    steps(10)
    assert steps(600) / steps(300) < MOST


def messages(text: str) -> list[str]:
    return [diagnostic.message for diagnostic in load_text(text)[1]]


def test_what_aliases_stand_for_is_bounded() -> None:
    doubled = "".join(f"x-{i + 1}: &m{i + 1} [*m{i}, *m{i}, *m{i}, *m{i}]\n" for i in range(30))
    assert any(
        "aliases stand for more than 10000 values" in message for message in messages(f"x-0: &m0 [a]\n{doubled}")
    )
    long = "x-a: &a '" + "x" * 1_000_000 + "'\nnodes:\n" + "  n{0}: {{uses: echo, params: {{p: *a}}}}\n" * 20
    text = "".join(line.format(number) for number, line in enumerate(long.splitlines(keepends=True)))
    assert any("aliases stand for more than 10000 values" in message for message in messages(text))


def test_directives_are_few() -> None:
    directives = "".join(f"%TAG !a{i}! tag:x{i}\n" for i in range(101))
    assert messages(f"{directives}---\nnodes: {{a: {{uses: echo}}}}\n") == [
        "more than 100 lines that begin with '%', which are for YAML's directives; no file needs any"
    ]


def test_what_is_included_is_bounded(tmp_path: Path) -> None:
    from flowcraft_server.blueprints.loading.loader import load_file

    (tmp_path / "large.txt").write_text("x" * 1_000_000)
    nodes = "".join(f"  n{i}: {{uses: echo, params: {{p: !include large.txt}}}}\n" for i in range(30))
    (tmp_path / "b.yaml").write_text(f"nodes:\n{nodes}")
    _, found = load_file(tmp_path / "b.yaml")
    assert {diagnostic.message for diagnostic in found} == {
        "!include: all included files together have more than 16 MiB"
    }


def test_names_of_errors_and_paths_have_an_end() -> None:
    names = ", ".join(f"E{i}" for i in range(101))
    assert messages(f"nodes: {{a: {{uses: echo, config: {{nonRetryable: [{names}]}}}}}}") == [
        "101 names: 100 at most can be named; let the handler raise NonRetryableError"
    ]
    graph: dict[str, Any] = {"id": "b", "nodes": [{"id": "a", "uses": "echo", "inputs": ".".join("a" * 2_000)}]}
    found = lint(Blueprint.from_plain(graph), handlers=HANDLERS, blueprints={})
    assert [diagnostic.message for diagnostic in found] == ["a path of 3,999 characters: it has 2,000 at most"]


def calling(number: int, *called: int) -> Blueprint:
    nodes = [{"id": f"n{i}", "uses": "subflow", "params": {"blueprintId": f"b{i}"}} for i in called]
    return Blueprint.from_plain({"id": f"b{number}", "nodes": nodes or [{"id": "n", "uses": "echo"}], "edges": []})


@pytest.mark.parametrize("shape", ["chain", "ring", "star"])
def test_twice_the_files_take_twice_as_long(shape: str) -> None:
    def steps(count: int) -> int:
        if shape == "star":
            made = [calling(0, *range(1, count)), *(calling(i, 0) for i in range(1, count))]
        else:
            made = [calling(i, *([i + 1] if i + 1 < count else [0] if shape == "ring" else [])) for i in range(count)]
        catalog = Catalog({blueprint.id: blueprint for blueprint in made})
        return lines_run(lambda: [lint(each, handlers=HANDLERS, blueprints=catalog) for each in made])

    assert steps(200) / steps(100) < MOST


def test_calls_round_in_a_circle_are_found_in_a_catalog() -> None:
    made = [calling(0, 1), calling(1, 2), calling(2, 1), calling(3, 3)]
    catalog = Catalog({blueprint.id: blueprint for blueprint in made})
    found = [[diagnostic.message for diagnostic in lint(each, handlers=HANDLERS, blueprints=catalog)] for each in made]
    end = ", in every run: it would never end; put the call behind an action or a condition"
    assert found == [
        [],
        [f"'b2' calls 'b1' again{end}"],
        [f"'b1' calls 'b2' again{end}"],
        [f"the blueprint calls itself{end}"],
    ]


SETTINGS = {
    "profiles": lambda n: "profiles:\n" + "".join(f"  p{i}: {{executor: {{workers: 2}}}}\n" for i in range(n)),
    "handlers": lambda n: "handlers:\n" + "".join(f"  h{i}: mod:f{i}\n" for i in range(n)),
    "handlers in a profile": lambda n: (
        "profiles:\n  p0:\n    handlers:\n" + "".join(f"      h{i}: mod:f{i}\n" for i in range(n))
    ),
    "unknown keys": lambda n: "".join(f"unknown{i}: 1\n" for i in range(n)),
    "extensions": lambda n: "".join(f"x-{i}: 1\n" for i in range(n)),
    "variables that are not set": lambda n: "handlers:\n" + "".join(f"  h{i}: ${{NOWHERE{i}}}\n" for i in range(n)),
    "wrong values": lambda n: "handlers:\n" + "".join(f"  h{i}: {{path: mod:f, timeout: never}}\n" for i in range(n)),
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_twice_the_settings_take_twice_as_long(name: str, tmp_path: Path) -> None:
    def steps(count: int) -> int:
        (tmp_path / "flowcraft.yaml").write_text(f"name: n\n{SETTINGS[name](count)}")
        profile = "p0" if "profile" in name else None
        variables = {f"FLOWCRAFT__HANDLERS__H{i}__TIMEOUT": "5s" for i in range(count if name == "handlers" else 0)}
        return lines_run(lambda: load_settings(tmp_path / "flowcraft.yaml", profile=profile, environ=variables))

    steps(5)
    assert steps(200) / steps(100) < MOST


def test_the_nearest_name_is_the_one_that_difflib_finds() -> None:
    from difflib import get_close_matches

    names = [
        f"{first}{second}{number}" for first in ("load", "store", "check") for second in "abc" for number in range(30)
    ]
    for wanted in ("laod1", "stroea2", "chek", "chekb29", "nothing", "storec"):
        assert [nearest(wanted, names)] == (get_close_matches(wanted, names, 1, 0.6) or [None])
