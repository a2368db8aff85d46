"""Every broken blueprint gets its message, with line and column, and no other message; none ends in a traceback."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.blueprints.registry import problems_of

FILES = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
CASES = [(path.stem, case) for path in FILES for case in yaml.safe_load(path.read_text(encoding="utf-8"))]


def test_there_are_many_of_them() -> None:
    assert len(CASES) >= 250
    assert len({(family, case["name"]) for family, case in CASES}) == len(CASES)


@pytest.mark.parametrize(("family", "case"), CASES, ids=[f"{family}: {case['name']}" for family, case in CASES])
def test_a_broken_blueprint_is_explained(family: str, case: dict[str, Any]) -> None:
    form = case.get("format", "yaml")
    diagnostics = problems_of(case["text"], format=form)
    shown = [str(diagnostic).split("\n")[0].removeprefix(f"main.{form}:") for diagnostic in diagnostics]
    missing = [line for line in case["expect"] if not any(found.startswith(line) for found in shown)]
    extra = [found for found in shown if not any(found.startswith(line) for line in case["expect"])]
    assert not missing, f"not shown: {missing}\nbut: {shown}"
    assert not extra, f"shown as well: {extra}"


GENERATED = {
    "a condition of 8,000 characters": ("a + " * 2000 + "a", "4:47   edges[0].condition: the expression has"),
    "a condition of 600 brackets": ("(" * 600 + "1" + ")" * 600, "4:47   edges[0].condition: nested too deep"),
}


@pytest.mark.parametrize("name", GENERATED)
def test_an_endless_expression_is_explained(name: str) -> None:
    source, expected = GENERATED[name]
    head = "nodes: {a: {uses: echo}, b: {uses: echo}}\nedges:\n"
    text = f'{head}  -\n    {{source: a, target: b, condition:         "{source}"}}\n'
    shown = [str(diagnostic) for diagnostic in problems_of(text)]
    assert len(shown) == 1
    assert shown[0].startswith(f"main.yaml:{expected}")
    assert all(len(line) < 250 for line in shown[0].split("\n"))


class TestWhatIsShown:
    def test_a_caret_stands_below_the_spot(self) -> None:
        text = (
            "nodes: {a: {uses: echo}, b: {uses: echo}}\n"
            "edges:\n  - source: a\n    target: b\n    condition: result.output.score >\n"
        )
        (diagnostic,) = problems_of(text)
        first, line, caret = str(diagnostic).split("\n")
        assert first.startswith("main.yaml:5:16   edges[0].condition: ")
        assert line == "      5 | result.output.score >"
        assert caret == "        | " + " " * len("result.output.score ") + "^"

    def test_names_from_the_file_never_break_a_line(self) -> None:
        text = 'nodes:\n  "a\\nb\\x1b[31m": {uses: "no\\nsuch\\x07"}\n'
        for diagnostic in problems_of(text):
            assert str(diagnostic).isprintable()

    def test_problems_come_in_the_order_of_their_lines(self) -> None:
        diagnostics = problems_of("nodes:\n  a: {uses: ech}\n  b: {uses: ecc}\n  c: {uses: eco}\n")
        lines = [
            diagnostic.position.line
            for diagnostic in diagnostics
            if diagnostic.position and diagnostic.severity == "error"
        ]
        assert lines == [2, 3, 4]

    def test_an_aliased_mistake_is_shown_once_for_each_node(self) -> None:
        text = "nodes:\n  a: &a {uses: echo, config: {timeout: soon}}\n  b: *a\n  c: {<<: *a}\n"
        errors = [diagnostic for diagnostic in problems_of(text) if diagnostic.severity == "error"]
        assert [diagnostic.path for diagnostic in errors] == [f"nodes.{name}.config.timeout" for name in "abc"]
        assert {diagnostic.position.line for diagnostic in errors if diagnostic.position} == {2}
