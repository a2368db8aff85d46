"""The compiler: what a plan keeps of its blueprint."""

import json

from flowcraft_server.blueprints.compiler import compile_blueprint
from flowcraft_server.blueprints.model import Blueprint


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
