"""The compiler: what a plan keeps of its blueprint."""

import json
import os
import subprocess
import sys

import pytest

from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.difference import difference
from flowcraft_server.blueprints.graph import Graph
from flowcraft_server.blueprints.mermaid import to_mermaid
from flowcraft_server.blueprints.model import Blueprint
from tests.unit.blueprints.registry import read


def test_a_plan_read_back_keeps_the_order_of_mappings() -> None:
    inputs = {"zeta": "c", "alpha": "b", "mid": "a"}
    plain = {
        "id": "ordered",
        "nodes": [{"id": "a", "uses": "x"}, {"id": "b", "uses": "x"}, {"id": "c", "uses": "x"}, {"id": "j", "uses": "x", "inputs": inputs}],
        "edges": [{"source": name, "target": "j"} for name in "cba"],
    }  # fmt: skip
    plan = compile_blueprint(Blueprint.from_plain(plain))
    again = compile_blueprint(Blueprint.from_plain(json.loads(plan.fields["doc"])))
    node = again.nodes["j"].node
    assert isinstance(node.inputs, dict)
    assert list(node.inputs) == list(inputs)
    assert again.hash == plan.hash


def test_every_process_gives_a_blueprint_the_same_hash() -> None:
    plain = {
        "id": "b",
        "nodes": [{"id": "a", "uses": "x"}, {"id": "b", "uses": "x"}],
        "edges": [{"source": "a", "target": "b", "condition": "k1 + k2 + k3 + k4 + k5 > 3"}],
    }
    script = (
        "import json, sys\n"
        "from flowcraft_server.blueprints.compiling.compiler import compile_blueprint\n"
        "from flowcraft_server.blueprints.model import Blueprint\n"
        "print(compile_blueprint(Blueprint.from_plain(json.loads(sys.argv[1]))).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script, json.dumps(plain)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("factor", ["1", "1.0", "2", "2.0", "1.5"])
@pytest.mark.parametrize("jitter", ["0", "0.0", "1", "1.0", "0.25"])
def test_a_plan_has_one_hash_however_its_blueprint_was_kept(factor: str, jitter: str) -> None:
    """A further start reads blueprints from its cache, in the plain form."""
    config = f"retryDelay: {{initial: 1s, factor: {factor}, jitter: {jitter}, max: 9s}}, maxRetries: 3, timeout: 5s, nonRetryable: [A]"
    text = f"id: g\nnodes: {{a: {{uses: echo, config: {{{config}}}, params: {{n: 2.0, m: 2}}}}, b: {{uses: echo, needs: a}}}}"
    blueprint = read(text)
    kept = Blueprint.from_plain(json.loads(json.dumps(blueprint.to_plain())))
    again = Blueprint.from_plain(json.loads(json.dumps(kept.to_plain())))
    hashes = {compile_blueprint(each).hash for each in (blueprint, kept, again)}
    assert len(hashes) == 1
    other = read(text.replace("factor: 2.0", "factor: 2").replace("jitter: 1.0", "jitter: 1"))
    assert compile_blueprint(other).hash in hashes


def test_a_loop_within_two_others_takes_no_node_of_the_outermost_one() -> None:
    """Once the innermost one took the outer header for a side branch of its own: the plan had no node to begin with."""
    plain = {
        "id": "b",
        "nodes": [{"id": "n0", "uses": "x", "config": {"fallback": "n0"}}, {"id": "n1", "uses": "x"}, {"id": "n2", "uses": "x"}],
        "edges": [
            {"source": "n0", "target": "n2"},
            {"source": "n0", "target": "n1"},
            {"source": "n1", "target": "n2", "action": "on"},
            {"source": "n2", "target": "n0"},
        ],
    }  # fmt: skip
    blueprint = Blueprint.from_plain(plain)
    forest = Graph(blueprint).loops()
    assert {header: loop.parent for header, loop in forest.loops.items()} == {"n1": None, "n2": "n1", "n0": "n2"}
    assert compile_blueprint(blueprint).starts == Graph(blueprint).starts() == ("n1",)


CLOSING = """
nodes:
  a: {uses: echo, config: {compensate: undo}}
  each: {uses: map, inputs: a, params: {uses: echo}, needs: a, config: {compensate: undo}}
  undo: {uses: echo}
finally:
  release: {uses: echo}
  report: {uses: echo, needs: release}
"""


def test_what_a_run_closes_with_is_kept_apart() -> None:
    blueprint = read(CLOSING)
    plan = compile_blueprint(blueprint)
    assert (plan.starts, plan.terminals) == (("a",), ("each",))
    assert json.loads(plan.fields["meta"]) == {
        "id": "main", "starts": ["a"], "onFailure": "stop", "closes": 1, "finally": ["release"],
    }  # fmt: skip
    options = {name: json.loads(plan.fields[f"n:{name}"])[5] for name in ("each", "undo", "release", "report")}
    assert options["each"] == {"closes": 1, "compensate": "undo", "inputs": 1, "items": 1}
    assert options["undo"] == {"closing": "c"}
    assert options["release"] == options["report"] == {"closing": "f"}
    assert json.loads(plan.fields["n:undo"])[1] == ["ci:undo"]
    plain = blueprint.to_plain()
    assert plain["finally"] == ["release", "report"]
    assert plain["nodes"][0]["config"] == {"compensate": "undo"}
    assert Blueprint.from_plain(json.loads(json.dumps(plain))) == blueprint
    assert read(json.dumps(plain), format="json") == blueprint
    other = difference(blueprint, read(CLOSING.replace("compensate: undo}}\n  undo", "timeout: 1s}}\n  undo")))
    assert [change.path for change in other.nodes_changed["each"]] == ["config.compensate", "config.timeout"]
    shown = to_mermaid(blueprint)
    assert 'subgraph closing ["finally"]' in shown
    assert 'a -. "compensate" .-> undo' in shown


def test_a_blueprint_without_closing_nodes_has_the_plan_that_it_had() -> None:
    plan = compile_blueprint(read("nodes: {a: {uses: echo}}\n"))
    assert json.loads(plan.fields["meta"]) == {"id": "main", "starts": ["a"], "onFailure": "stop", "fast": 1}
    assert json.loads(plan.fields["n:a"])[5] == {"fast": 1}
