"""Found values are written in place of expected ones, and nothing else of a file changes."""

from typing import Any

import pytest

from flowcraft_server.testing.expectations import Mismatch
from flowcraft_server.testing.rewriting import CannotRewrite, rewritten
from flowcraft_server.testing.selection import selection

TEXT = """\
# top
nodes: {a: {uses: x}}   # nodes
tests:
  # first
  - name: one   # comment
    expect:
      outputs:
        # about a
        a: [1, 2]   # keep me
      context:
        k:
          b: 1
          c: [2]  # inner
        # after
        l: é
  - name: two
    expect: {output: {x: 1}, status: completed}  # end
"""


def found(value: Any, *path: str) -> Mismatch:
    return Mismatch(path, "differs", (), value, True)


def test_comments_and_all_else_stay() -> None:
    long = [{"x": "x" * 60}, {"y": "y" * 60}]
    updates = [
        (0, found({"z": "ü", "yes": True}, "outputs", "a")),
        (0, found(long, "context", "k")),
        (0, found("yes", "context", "l")),
        (1, found([1, {"a": None}], "output")),
    ]
    after = rewritten(TEXT, updates, "yaml")
    expected = TEXT.replace("[1, 2]   #", '{"z": "ü", "yes": true}   #').replace("l: é", 'l: "yes"')
    expected = expected.replace("{x: 1}, status", '[1, {"a": null}], status')
    block = '[\n            {\n              "x": "XX"\n            },\n            {\n              "y": "YY"\n            }\n          ]'
    block = block.replace("XX", "x" * 60).replace("YY", "y" * 60)
    assert after == expected.replace("b: 1\n          c: [2]  # inner", f"{block}  # inner")


def test_json_stays_json() -> None:
    text = '{"nodes": [{"id": "a", "uses": "x"}],\n "tests": [{"expect": {"output": 1}}]}\n'
    assert rewritten(text, [(0, found([True], "output"))], "json") == text.replace('"output": 1', '"output": [true]')


@pytest.mark.parametrize(
    "text",
    [
        "nodes: {a: {uses: x}}\nx-a: &o {y: 1}\ntests:\n  - expect: {output: *o}\n",
        "nodes: {a: {uses: x}}\nx-e: &e {output: 1}\ntests:\n  - expect: {<<: *e}\n",
        "nodes: {a: {uses: x}}\ntests:\n  - expect: {output: &o {y: 1}}\n  - expect: {output: *o}\n",
        "nodes: {a: {uses: x}}\ntests:\n  - expect:\n      output: |\n        text\n      status: completed\n",
    ],
)
def test_what_an_anchor_brings_is_left_alone(text: str) -> None:
    with pytest.raises(CannotRewrite):
        rewritten(text, [(0, found({"y": 2}, "output"))], "yaml")


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("paid", ["order::paid", "order::paid late"]),
        ("PAID and not late", ["order::paid"]),
        ("late or ship", ["order::paid late", "ship::x"]),
        ("not (late or ship)", ["order::paid"]),
        ("order::paid", ["order::paid", "order::paid late"]),
    ],
)
def test_selection(expression: str, chosen: list[str]) -> None:
    names = ["order::paid", "order::paid late", "ship::x"]
    assert [name for name in names if selection(expression)(name)] == chosen


@pytest.mark.parametrize("expression", ["", "(a", "a b", "and", "not", "a or", ")", "a" * 2000])
def test_what_is_no_selection(expression: str) -> None:
    with pytest.raises(ValueError):
        selection(expression)
