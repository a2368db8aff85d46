"""Every place where a literal, an expression or a duration from data may stand: right, wrong when loaded, wrong in a run.

`test_from_data.py` has what they do in detail. Here each place is a blueprint in which it is `HERE`; a place that is added to the
language is added here.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, RunStatus
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.testing import TestEnvironment
from tests.unit.blueprints.registry import HANDLERS, problems_of

CHILD = "nodes: {inner: {uses: echo, inputs: topic}}\noutputs: {out: inner}\n"
SOURCES = {
    "inputs of a node": "nodes: {a: {uses: echo, inputs: HERE}}\noutputs: {found: a}\n",
    "one of the inputs": "nodes: {a: {uses: echo, inputs: {p: HERE}}}\noutputs: {found: a.p}\n",
    "inputs of a node with edges": "nodes:\n  s: {uses: echo}\n  a: {uses: echo, needs: s, inputs: {p: HERE}}\noutputs: {found: a.p}\n",
    "inputs of a fallback": "nodes:\n  b: {uses: fails, config: {fallback: a}}\n  a: {uses: echo, inputs: HERE}\noutputs: {found: a}\n",
    "inputs of a round": "nodes: {s: {uses: echo, next: a}, a: {uses: echo, inputs: HERE, next: l}, l: {uses: loop-controller, params: {condition: 'false'}, next: {continue: a, break: z}}, z: {uses: echo}}\noutputs: {found: a}\n",
    "inputs of a sleep": "nodes: {a: {uses: sleep, inputs: HERE, params: {for: 1ms}}}\noutputs: {found: a}\n",
    "inputs of a map": "nodes: {a: {uses: map, inputs: HERE, params: {uses: echo}}}\noutputs: {found: a}\n",
    "inputs of a call": "nodes: {a: {call: child, inputs: {topic: HERE}}}\noutputs: {found: a.out}\n",
    "outputs of a call": "nodes: {a: {call: child, inputs: {topic: x}, outputs: {found: HERE}}}\noutputs: {found: found}\n",
    "inputs of a subflow": "nodes: {a: {uses: subflow, params: {blueprintId: child, inputs: {topic: HERE}}}}\noutputs: {found: a.out}\n",
    "outputs of a subflow": "nodes: {a: {uses: subflow, params: {blueprintId: child, inputs: {topic: x}, outputs: {found: HERE}}}}\noutputs: {found: found}\n",
    "inputs of a call of each item": "nodes: {a: {uses: map, inputs: one, params: {call: child, inputs: {topic: HERE}}}}\noutputs: {found: \"= a[0].out\"}\n",
    "outputs of a call of each item": "nodes: {a: {uses: map, inputs: one, params: {call: child, inputs: {topic: item}, outputs: {result: HERE}}}}\noutputs: {found: \"= a[0]\"}\n",
    "outputs of the run": "nodes: {a: {uses: echo, inputs: x}}\noutputs: {found: HERE}\n",
    "inputs in finally": "nodes: {s: {uses: echo}}\nfinally: {a: {uses: echo, inputs: HERE}}\n",
    "inputs of a compensation": "nodes:\n  s: {uses: echo, config: {compensate: a}}\n  b: {uses: fails, needs: s}\n  a: {uses: echo, inputs: HERE}\n",
    "a list of nodes": "nodes: [{id: a, uses: echo, inputs: {p: HERE}}]\nedges: []\noutputs: {found: a.p}\n",
}  # fmt: skip
EXPRESSIONS = {
    "outputs of a call": "[1, 1 + 1]",
    "outputs of a subflow": "[1, 1 + 1]",
    "outputs of a call of each item": "[1, 1 + 1]",
}
WHOLE = {
    name
    for name, text in SOURCES.items()
    if "uses: echo, inputs: HERE" in text or name in ("inputs of a sleep", "inputs of a map")
}
"""Where `{value: 5}` would be a mapping with that key; a literal is an expression there."""

"""What stands there reads the child's data, in which the names of the run are not."""

DURATIONS = {
    "config.timeout": "nodes: {a: {uses: echo, config: {timeout: HERE}}}\n",
    "config.retryDelay": "nodes: {a: {uses: echo, config: {maxRetries: 2, retryDelay: HERE}}}\n",
    "config.retryDelay.initial": "nodes: {a: {uses: echo, config: {maxRetries: 2, retryDelay: {initial: HERE}}}}\n",
    "config.timeout of items": "nodes: {a: {uses: map, inputs: one, params: {uses: echo}, config: {timeout: HERE}}}\n",
    "config.timeout of a call": "nodes: {a: {call: child, inputs: {topic: x}, config: {timeout: HERE}}}\n",
    "config.timeout in a round": "nodes: {s: {uses: echo, next: a}, a: {uses: echo, config: {timeout: HERE}, next: l}, l: {uses: loop-controller, params: {condition: 'false'}, next: {continue: a, break: z}}, z: {uses: echo}}\n",
    "config.timeout of a fallback": "nodes:\n  b: {uses: fails, config: {fallback: a}}\n  a: {uses: echo, config: {timeout: HERE}}\n",
    "config.timeout in finally": "nodes: {s: {uses: echo}}\nfinally: {a: {uses: echo, config: {timeout: HERE}}}\n",
    "config.timeout of a compensation": "nodes:\n  s: {uses: echo, config: {compensate: a}}\n  b: {uses: fails, needs: s}\n  a: {uses: echo, config: {timeout: HERE}}\n",
    "defaults.timeout": "defaults: {timeout: HERE}\nnodes: {a: {uses: echo}}\n",
    "defaults.retryDelay": "defaults: {maxRetries: 2, retryDelay: HERE}\nnodes: {a: {uses: echo}}\n",
    "params.for": "nodes: {a: {uses: sleep, params: {for: HERE}}}\n",
    "params.duration": "nodes: {a: {uses: sleep, params: {duration: HERE}}}\n",
    "params.timeout": "nodes: {a: {uses: wait, params: {timeout: HERE, onTimeout: late}}}\n",
    "params.timeout of a webhook": "nodes: {a: {uses: webhook, params: {timeout: HERE, onTimeout: late}}}\n",
}  # fmt: skip
MOMENTS = {
    "params.until": "nodes: {a: {uses: sleep, params: {until: HERE}}}\n",
    "params.until of a wait": "nodes: {a: {uses: wait, params: {until: HERE, onTimeout: late}}}\n",
    "params.until of a webhook": "nodes: {a: {uses: webhook, params: {until: HERE, onTimeout: late}}}\n",
}
PLACES = {**SOURCES, **DURATIONS, **MOMENTS}
VALUE = [1, 2]
CONTEXT = {"x": 1, "one": [7], "list": VALUE, "soon": "20ms", "begin": "2020-01-01T09:00:00Z", "wrong": {"no": "time"}}
UNDONE = ("inputs of a compensation", "config.timeout of a compensation")


def named(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


given: dict[str, Any] = {}
"""What `a` was called with, by run."""


def echo(ctx: NodeContext) -> Any:
    if ctx.node_id == "a":
        given[ctx.run_id] = ctx.input
    return ctx.input


def fails(ctx: NodeContext) -> Any:
    raise RuntimeError("no")


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    found = {"child": CHILD}
    for name, text in PLACES.items():
        if name in SOURCES:
            literal = '"= [1, 2]"' if name in WHOLE else "{value: [1, 2]}"
            right = {"literal": literal, "expression": f'"= {EXPRESSIONS.get(name, "[x, list[0] + 1]")}"'}
        elif name in DURATIONS:
            right = {"literal": "10ms", "expression": '"= soon"', "wrong": '"= wrong"'}
        else:
            right = {"literal": '"2020-01-01T09:00:00Z"', "expression": '"= begin + 10m"', "wrong": '"= wrong"'}
        for kind, value in right.items():
            found[f"{named(name)}-{kind}"] = text.replace("HERE", value)
    handlers = {"echo": echo, "fails": fails}
    with TestEnvironment(blueprints=found, handlers=handlers, check=False) as environment:
        yield environment


@pytest.mark.parametrize("kind", ["literal", "expression"])
@pytest.mark.parametrize("name", list(PLACES))
def test_what_is_right_counts(env: TestEnvironment, name: str, kind: str) -> None:
    handle = env.client.start(f"{named(name)}-{kind}", CONTEXT)
    run = handle.wait(timeout=60)
    assert run.status is (RunStatus.FAILED if name in UNDONE else RunStatus.COMPLETED), run.failures
    assert [failure for failure in run.failures if failure.node_id != "b"] == []
    if name in SOURCES:
        if name in ("inputs in finally", "inputs of a compensation"):
            assert given[handle.run_id] == VALUE
        else:
            assert handle.result() == {"found": VALUE}


@pytest.mark.parametrize("name", [*DURATIONS, *MOMENTS])
def test_what_is_no_time_in_a_run_fails_the_node_and_names_it(env: TestEnvironment, name: str) -> None:
    run = env.client.start(f"{named(name)}-wrong", CONTEXT).wait(timeout=60)
    (failure,) = [failure for failure in run.failures if failure.node_id != "b"]
    assert failure.type.endswith("InvalidDuration")
    assert "'= wrong'" in failure.message
    assert "node 'a" in failure.message
    assert failure.attempt == 1


@pytest.mark.parametrize("value", ['"= x +"', '"="', "[5, {}]"])
@pytest.mark.parametrize("name", list(PLACES))
def test_what_is_wrong_is_found_when_it_is_loaded(name: str, value: str) -> None:
    text = PLACES[name].replace("HERE", value)
    begin = text.index(value)
    line = text.count("\n", 0, begin) + 1
    column = begin - text.rfind("\n", 0, begin)
    handlers = {**HANDLERS, "fails": HandlerSpec()}
    errors = [found for found in problems_of(text, handlers=handlers) if found.severity == "error"]
    assert errors, text
    for found in errors:
        if "is not handed over" in found.message:
            continue  # what the call lacks for it
        assert found.position is not None
        assert found.position.line == line, str(found)
        assert column <= found.position.column < column + len(value), str(found)
