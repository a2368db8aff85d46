"""Whatever a file holds, it is read or explained: never a traceback, and nothing that is accepted fails later."""

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_server.blueprints.analysis import analyze
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import Format, load_text
from flowcraft_server.blueprints.mermaid import to_mermaid
from flowcraft_server.blueprints.model import Blueprint
from tests.unit.blueprints.registry import CALLED, HANDLERS

CASES = json.loads((Path(__file__).parents[2] / "conformance" / "cases.json").read_text(encoding="utf-8"))["cases"]
EVERYTHING = """\
id: everything
description: One of each.
inputs: {topic: string, n: {type: integer, default: 3}}
outputs: {answer: j, raw: a.text}
defaults: {timeout: 60s, maxRetries: 2, retryDelay: {initial: 500ms, factor: 2, max: 1m, jitter: 0.2}}
metadata: {version: 1, cycleEntryPoints: [l]}
x-slow: &slow {timeout: 5m}
nodes:
  a: {uses: echo, inputs: topic, config: {<<: *slow, fallback: f}, next: [r, m]}
  f: {uses: add, params: {n: 1}}
  r: {uses: route, next: {yes: c, no: s, "*": w}}
  c: {call: child, inputs: {topic: topic}, outputs: {sum: summary}}
  s: {uses: batch-scatter, inputs: items, params: {workerUsesKey: echo, gatherNodeId: g}}
  g: {uses: batch-gather, params: {outputKey: results}}
  w: {uses: wait, params: {actions: [go], timeout: 1h, onTimeout: late}, next: {go: l, late: l}}
  l: {uses: loop-controller, params: {condition: context.i < 3}, next: {continue: b, break: z}}
  b: {uses: echo, next: l}
  z: {uses: sleep, params: {duration: 5s}}
  m: {uses: map, inputs: {x: items}, params: {uses: add, params: {n: 2}}, config: {onItemError: collect}}
  j: {uses: ask, needs: {any: [c, g]}, params: {promptTemplate: x, inputs: {p: [c, g]}}}
edges:
  - {source: m, target: j, condition: "result.output.x >= 0.8", transform: "{y: input.x}"}
  - z -> j
  - a -[x]-> j
tests: [{name: t, input: {topic: x}}]
"""
WORDS = st.sampled_from(
    ["a", "b", "zz", "nodes", "edges", "uses", "params", "next", "needs", "call", "config", "inputs", "{", "}", "[", "]",
     ":", " ", "\n", "\t", "- ", '"', "'", "*", "&a ", "*a", "<<: ", "!include x", "!!int ", "#", "|", ">", "->", "-[x]->",
     "true", "null", "~", "0", "-1", "1e999", ".nan", "9" * 30, "\u00e9", "\x00", "\ud800", "\u2028", "\\", ",", "---\n",
     "%", "@", "`", "subflow", "batch-scatter", "loop-controller", "wait", "main", "result.output >", "x" * 300]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "uses", "id", "params", "source", "x y", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)


def check(text: str, form: Format) -> None:
    blueprint, diagnostics = load_text(text, "main", "main", form)
    lines = re.split(r"\r\n|\r|\n", text)
    found = list(diagnostics)
    if blueprint is not None:
        found += lint(blueprint, handlers=HANDLERS, blueprints=CALLED)
        analyze(blueprint)
        to_mermaid(blueprint)
    for diagnostic in found:
        assert diagnostic.position is not None, str(diagnostic)
        assert 1 <= diagnostic.position.line <= len(lines)
        assert diagnostic.position.column >= 1
        assert all(line.isprintable() for line in str(diagnostic).split("\n"))
    if any(diagnostic.severity == "error" for diagnostic in found):
        return
    assert blueprint is not None
    assert blueprint.complete
    plain = blueprint.to_plain()
    assert Blueprint.from_plain(json.loads(json.dumps(plain))) == blueprint
    compile_blueprint(blueprint)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 1, 2, 5, 20, 200])))
        text = text[:start] + draw(WORDS | st.just(text[start:end] * 2)) + text[end:]
    return text


@settings(max_examples=400, deadline=None)
@given(mutated(EVERYTHING))
def test_mutated_yaml(text: str) -> None:
    check(text, "yaml")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CASES).flatmap(lambda case: mutated(json.dumps(case["blueprint"]))),
    st.sampled_from(["json", "yaml"]),
)
def test_mutated_json(text: str, form: Format) -> None:
    check(text, form)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.lists(WORDS, max_size=30).map("".join), st.sampled_from(["json", "yaml"]))
def test_any_text(text: str, form: Format) -> None:
    check(text, form)


@st.composite
def misshapen(draw: st.DrawFn) -> Any:
    """A good blueprint with values in it replaced, removed, or put under other keys."""
    value = json.loads(json.dumps(draw(st.sampled_from(CASES[:60]))["blueprint"]))
    for _ in range(draw(st.integers(1, 3))):
        here: Any = value
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(here[key], dict | list) and draw(st.integers(0, 3)):
                here = here[key]
                continue
            how = draw(st.sampled_from(["replace", "remove", "rename", "borrow"]))
            if how == "remove":
                del here[key]
            elif how == "rename" and isinstance(here, dict):
                here[draw(st.sampled_from(["id", "uses", "inputs", "fallback", "params", "config", "x"]))] = here.pop(
                    key
                )
            elif how == "borrow":
                here[key] = draw(
                    st.sampled_from(["n0", "n1", "n2", "subflow", "map", "batch-scatter", "child", "main"])
                )
            else:
                here[key] = draw(VALUES)
            break
    return value


@settings(max_examples=500, deadline=None)
@given(misshapen(), st.sampled_from(["json", "yaml"]))
def test_misshapen_blueprints(value: Any, form: Format) -> None:
    check(json.dumps(value), form)
