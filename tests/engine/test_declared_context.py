"""Keys that a blueprint declares in `context:` hold values of their types, wherever they come from."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from flowcraft_sdk import InvalidInputError, NodeContext, RunFailedError
from flowcraft_server.testing import TestEnvironment
from tests.engine.leaks import leaked_keys

DECLARED = """
context: {total: number, names: list, note: {type: string, description: for people}, free: any}
nodes:
  write: {uses: write, inputs: given}
  sub: {call: child, inputs: {total: "= total * 2"}, outputs: {note: said}, needs: write}
outputs: {total: total, note: note, free: free}
"""
CHILD = """
context: {total: integer}
nodes: {said: {uses: say, inputs: total}}
"""


def write(ctx: NodeContext) -> None:
    for key, value in (ctx.input or {}).items():
        ctx.context.set(key, value)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    handlers = {"write": write, "say": lambda ctx: "nothing" if ctx.input == 0 else ctx.input and f"got {ctx.input}"}
    with TestEnvironment(blueprints={"declared": DECLARED, "child": CHILD}, handlers=handlers, check=False) as env:
        yield env
        assert not leaked_keys(env)


def test_values_of_the_declared_types_pass(env: TestEnvironment) -> None:
    given = {"total": Decimal(2), "names": ["a"], "free": {"x": 1}, "undeclared": object.__name__}
    assert env.client.execute("declared", {"given": {**given, "total": 2}}, timeout=60)["note"] == "got 4"
    found = env.client.execute("declared", {"given": {**given, "total": 0}, "names": None}, timeout=60)
    assert found == {"total": 0, "note": "nothing", "free": {"x": 1}}


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"total": "5"}, 'total: expected number, got "5" (declared in `context:`)'),
        ({"names": {"a": 1}}, "names: expected list"),
    ],
)
def test_a_start_context_with_another_type_is_refused(
    env: TestEnvironment, context: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError) as raised:
        env.client.start("declared", context)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"total": True}, "InvalidContextValue: context.total of node 'write': expected number, got true"),
        ({"note": 5}, "context.note of node 'write': expected string, got 5 (declared in `context:`)"),
        ({"total": 1.25}, "sub' does not fit the inputs of blueprint 'child': total: expected integer, got 2.5"),
    ],
)
def test_a_node_that_writes_another_type_fails(env: TestEnvironment, given: dict[str, Any], words: str) -> None:
    with pytest.raises(RunFailedError) as raised:
        env.client.execute("declared", {"given": given}, timeout=20)
    assert words in str(raised.value)
