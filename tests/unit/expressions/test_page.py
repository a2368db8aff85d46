"""The reference page says the truth: its examples, errors, functions and limits are those of the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression, limits
from flowcraft_sdk.protocol.expressions.functions import FUNCTIONS

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


SCOPE: dict[str, Any] = json.loads(blocks("json")[0])
EXAMPLES = [tuple(re.split(r"\s+→ ", line)) for block in blocks("expressions") for line in block.splitlines()]
ERRORS = [example.split("\n", 1) for block in blocks("errors") for example in block.rstrip("\n").split("\n\n")]


def test_the_page_was_read() -> None:
    assert len(EXAMPLES) > 80
    assert len(ERRORS) >= 6


@pytest.mark.parametrize(("source", "expected"), EXAMPLES)
def test_example(source: str, expected: str) -> None:
    value = compile_expression(source).evaluate(SCOPE)
    assert json.dumps(value) == json.dumps(json.loads(expected))


@pytest.mark.parametrize(("source", "text"), ERRORS)
def test_error(source: str, text: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        compile_expression(source)
    assert str(raised.value) == text


def test_conditions_and_transforms_of_the_yaml_example_compile() -> None:
    found = re.findall(r'(?:condition|transform): "(.*)"\}', blocks("yaml")[0])
    values = [compile_expression(source).evaluate(SCOPE) for source in found]
    assert values == [True, {"label": "spam", "user": "u1"}]


def test_every_function_has_a_row_and_an_example() -> None:
    section = PAGE.split("## Functions")[1].split("## Limits")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)\(", rows)) == set(FUNCTIONS)
    examples = {name for source, _ in EXAMPLES for name in re.findall(r"(\w+)\(", source)}
    assert examples == set(FUNCTIONS)


def test_limits_are_those_of_the_code() -> None:
    section = PAGE.split("## Limits")[1].split("## Errors")[0]
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+)", section)]
    assert numbers == [
        limits.MAX_SOURCE,
        limits.MAX_NESTING,
        limits.MAX_INTEGER_BITS,
        limits.MAX_TEXT,
        limits.MAX_PARTS,
    ]
