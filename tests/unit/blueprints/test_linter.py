"""What the linter does not say: blueprints that are right, and what depends on what is known."""

import json
from pathlib import Path

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.model import Blueprint, Edge, Node
from tests.unit.blueprints.registry import CALLED, HANDLERS, AddParams, messages_of, problems_of, read

CASES = json.loads((Path(__file__).parents[2] / "conformance" / "cases.json").read_text(encoding="utf-8"))["cases"]


def test_blueprints_of_the_original_have_no_errors() -> None:
    names = [
        "const",
        "echo",
        "add",
        "sum",
        "double",
        "concat",
        "route",
        "route_by",
        "fail",
        "flaky",
        "set",
        "get",
        "incr",
    ]
    handlers = dict.fromkeys(names, HandlerSpec())
    for case in CASES:
        subflows = {name: Blueprint.from_plain(plain) for name, plain in case["subflows"].items()}
        for blueprint in (Blueprint.from_plain(case["blueprint"]), *subflows.values()):
            diagnostics = lint(blueprint, handlers=handlers, blueprints=subflows)
            assert not [str(diagnostic) for diagnostic in diagnostics if diagnostic.severity == "error"], blueprint.id


QUIET = {
    "exclusive branches that meet": """
        nodes:
          r: {uses: route, next: {yes: a, no: b}}
          a: {uses: echo, next: j}
          b: {uses: echo, next: j}
          j: {uses: echo}
        """,
    "branches behind the default edge": """
        nodes:
          r: {uses: echo, next: {x: a, "*": b}}
          a: {uses: echo, next: c}
          c: {uses: echo, next: j}
          b: {uses: echo, next: j}
          j: {uses: echo}
        """,
    "two conditions of one node": """
        nodes: {r: {uses: echo}, a: {uses: echo, next: j}, b: {uses: echo, next: j}, j: {uses: echo}}
        edges:
          - {source: r, target: a, condition: result.output > 1}
          - {source: r, target: b, condition: result.output <= 1}
        """,
    "one action to two nodes, one of which is reached both ways": """
        nodes:
          r: {uses: route, next: {yes: [a, b], no: c}}
          a: {uses: echo}
          b: {uses: echo, next: j}
          c: {uses: echo, next: j}
          j: {uses: echo}
        """,
    "a join that names what it needs": """
        nodes:
          a: {uses: echo}
          b: {uses: echo}
          j: {uses: echo, needs: [a, b], inputs: {a: a, b: b.x}}
          k: {uses: ask, needs: [a, b], params: {promptTemplate: x, inputs: {p: [a, whatever]}}}
          l: {uses: echo, needs: {any: [a, b]}}
        """,
    "one node, and edges among those of finally": """
        finally: [clean, report]
        nodes: {work: {uses: echo}, clean: {uses: echo, next: report}, report: {uses: echo}}
        """,
    "a node that goes round by itself": """
        nodes: {again: {uses: route, next: {yes: again, no: done}}, done: {uses: echo}}
        """,
    "a loop": """
        nodes:
          s: {uses: echo, next: l}
          l: {uses: loop-controller, params: {condition: context.i < 3}, config: {joinStrategy: any}, next: {continue: b, break: e}}
          b: {uses: echo, next: l}
          e: {uses: echo}
        """,
    "a cycle with a condition": """
        nodes: {a: {uses: echo, next: b}, b: {uses: echo, next: c}, c: {uses: echo}, d: {uses: echo}}
        edges:
          - {source: c, target: b, condition: result.output < 3}
          - {source: c, target: d, condition: result.output >= 3}
        """,
    "a cycle that a choice may leave": """
        nodes:
          s: {uses: echo, next: a}
          a: {uses: route, next: {yes: e, "*": b}}
          b: {uses: echo, next: a}
          e: {uses: echo}
        """,
    "a cycle that says where it begins": """
        metadata: {cycleEntryPoints: [b]}
        nodes: {a: {uses: echo, next: b}, b: {uses: route, next: {yes: a, no: c}}, c: {uses: echo}}
        """,
    "a batch": """
        nodes:
          s: {uses: batch-scatter, inputs: items, params: {workerUsesKey: add, gatherNodeId: g, chunkSize: 3, params: {n: 1}}}
          g: {uses: batch-gather, params: {outputKey: results, gatherNodeId: g}, needs: s}
          m: {uses: map, inputs: results, needs: g, params: {uses: add, params: {n: 1}}, config: {onItemError: collect}}
        """,
    "pauses": """
        nodes:
          z: {uses: sleep, params: {duration: 5s}, next: w}
          w: {uses: wait, params: {timeout: 2h, onTimeout: late, actions: ["yes"], schema: {}}, next: {"yes": h, late: h}}
          h: {uses: webhook, params: {timeout: 1d}}
        """,
    "a fallback": """
        nodes:
          a: {uses: echo, config: {fallback: f}, next: b}
          b: {uses: echo}
          f: {uses: echo, next: c}
          c: {uses: echo}
        """,
    "an action of the fallback": """
        nodes:
          a: {uses: echo, config: {fallback: f}, next: {whatever: b}}
          b: {uses: echo}
          f: {uses: route}
        """,
    "a call with all that is needed": """
        inputs: {t: string}
        outputs: {x: x}
        nodes: {a: {call: child, inputs: {topic: t}, outputs: {x: summary}}, b: {uses: echo, needs: a, inputs: x}}
        """,
    "inputs of all kinds": """
        inputs: {t: string}
        nodes:
          a: {uses: echo, inputs: t, params: {key: written, outputKey: a}}
          b: {uses: echo, needs: a, inputs: {p: a, q: a.x.y, r: _outputs.a, s: _inputs.a, u: written, v: _anything}}
        """,
    "outputs of nodes that have run before": """
        nodes:
          a: {uses: echo, config: {fallback: f}, next: l}
          f: {uses: echo, inputs: {input: _inputs.a}}
          l: {uses: loop-controller, params: {condition: n < 3}, next: {continue: b, break: g}}
          b: {uses: echo, inputs: {instead: f, before: c.x}, next: c}
          c: {uses: echo, inputs: {own: c, first: a}, next: l}
          g: {uses: echo, inputs: _outputs.c}
        """,
    "keys that only look a little like nodes": """
        nodes: {user_post: {uses: echo}, b: {uses: echo, needs: user_post, inputs: {p: post, q: user}}}
        """,
    "expressions": """
        nodes: {a: {uses: echo}, b: {uses: echo}}
        edges:
          - {source: a, target: b, condition: "result.output.x > 1 and result.action == 'go' or flag", transform: "{y: input.x}"}
        """,
}


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_shown_of(name: str) -> None:
    assert messages_of(QUIET[name]) == []


class TestWhatIsNotKnown:
    TEXT = "nodes: {a: {uses: nothing-known, next: {x: b}}, b: {uses: map, inputs: a, params: {uses: neither}}}\n"

    def test_handlers(self) -> None:
        assert messages_of(self.TEXT, handlers=None) == []
        assert messages_of(self.TEXT, handlers={}) == [
            "nodes.a.uses: no handler 'nothing-known'; no handlers are registered",
            "nodes.b.params.uses: no handler 'neither'; no handlers are registered",
        ]

    def test_params_of_the_deployment_complete_those_of_a_node(self) -> None:
        text = "nodes: {a: {uses: add}}\n"
        assert messages_of(text) == ["nodes.a.params.n: handler 'add' needs it"]
        assert messages_of(text, handler_params={"add": {"n": 1}}) == []

    def test_the_blueprint_itself_is_known(self) -> None:
        text = "nodes: {a: {uses: echo}, b: {call: main}}\nedges: [{source: a, target: b, condition: result.output}]\n"
        assert [message.endswith("[warning]") for message in messages_of(text, blueprints={})] == [True]


def test_a_blueprint_without_a_file_is_checked_as_well() -> None:
    blueprint = Blueprint("p", (Node("a", "ech"), Node("a", "echo")), (Edge("a", "b", condition="1 +"),))
    assert {str(diagnostic).split("\n")[0] for diagnostic in lint(blueprint, handlers=HANDLERS, blueprints={})} == {
        "nodes.a: a second node 'a'",
        "edges[0].target: no node 'b'",
        "nodes.a.uses: no handler 'ech'; known: echo, add, route, ask, picky (did you mean 'echo'?)",
        "edges[0].condition: expected a value after '+'",
    }
    assert [str(diagnostic) for diagnostic in lint(Blueprint("e", ()), handlers=None, blueprints={})] == [
        "nodes: a blueprint needs at least one node"
    ]


def test_what_could_not_be_read_does_not_lead_to_more_mistakes() -> None:
    text = "nodes:\n  - {uses: echo}\n  - {id: b, uses: ech}\nedges: [a -> b, a -> b -> c]\n"
    blueprint, diagnostics = load_text(text)
    assert blueprint is not None
    assert not blueprint.complete
    assert [diagnostic.message for diagnostic in diagnostics] == ["a node needs an 'id'"]
    found = lint(blueprint, handlers=HANDLERS, blueprints={})
    assert [diagnostic.path for diagnostic in found] == ["nodes.b.uses"]


@pytest.mark.parametrize(
    ("after", "fallback"),
    [("{yes: lc, no: z}", "lc"), ("{yes: b, no: z}", "b"), ("lc", "none"), ("{yes: z, no: z}", "z")],
)
def test_a_fallback_may_lead_to_the_next_round(after: str, fallback: str) -> None:
    text = f"""
        nodes:
          s: {{uses: echo, next: lc}}
          lc: {{uses: loop-controller, params: {{condition: i < 3}}, next: {{continue: a, break: z}}}}
          a: {{uses: route, config: {{fallback: fb}}, next: {after}}}
          b: {{uses: echo, next: lc}}
          fb: {{uses: echo, next: {fallback}}}
          none: {{uses: echo}}
          z: {{uses: echo}}
        """
    assert not [message for message in messages_of(text) if "leads back" in message]


def test_calls_that_lead_round_are_found_over_several_blueprints() -> None:
    chain = {name: read(f"id: {name}\nnodes: {{x: {{call: {called}}}}}") for name, called in ("ab", "bc", "cd", "da")}
    found = lint(chain["a"], handlers=HANDLERS, blueprints=chain)
    assert [diagnostic.severity for diagnostic in found] == ["error"]
    chain["c"] = read("id: c\nnodes: {s: {uses: route, next: {yes: x, no: y}}, x: {call: d}, y: {uses: echo}}")
    found = lint(chain["a"], handlers=HANDLERS, blueprints=chain)
    assert [diagnostic.severity for diagnostic in found] == ["warning"]
    other = read("id: other\nnodes: {x: {call: a}}")  # it leads into the circle, but is not on it
    assert not lint(other, handlers=HANDLERS, blueprints=chain)


def test_large_blueprints_take_no_time() -> None:
    count = 3000
    nodes = tuple(Node(f"n{i}", "add", {"n": i}) for i in range(count))
    edges = tuple(Edge(f"n{i}", f"n{i + 1}", "x" if i % 3 else None) for i in range(count - 1))
    wide = tuple(Edge(f"n{i}", f"n{count - 1}") for i in range(0, count - 2, 7))
    blueprint = Blueprint("large", nodes, edges + wide)
    diagnostics = lint(blueprint, handlers={"add": HandlerSpec(params=AddParams)}, blueprints=CALLED)
    assert all(diagnostic.severity == "warning" for diagnostic in diagnostics)


WRITERS = {
    "writes": HandlerSpec(writes=("total",)),
    "silent": HandlerSpec(writes=()),
    "echo": HandlerSpec(),
}


@pytest.mark.parametrize(
    ("blueprint", "shown"),
    [
        ("inputs: {a: any}\nnodes: {w: {uses: writes}}\noutputs: {t: total}", []),
        ("inputs: {a: any}\ncontext: {total: number}\nnodes: {w: {uses: echo}}\noutputs: {t: total}", []),
        ("inputs: {a: any}\ncontext: [total]\nnodes: {w: {uses: echo}}\noutputs: {t: total.sum}", []),
        (
            "inputs: {a: any}\nnodes: {w: {uses: writes}}\noutputs: {t: totl}",
            ["outputs.t: nothing writes 'totl': it is no node and not among the blueprint's inputs; did you mean 'total'?   [warning]"],
        ),
        (
            "inputs: {a: any}\nnodes: {m: {uses: map, inputs: a, params: {uses: writes}}}\noutputs: {t: total}",
            [],
        ),
    ],
)  # fmt: skip
def test_what_is_declared_to_be_written_is_known(blueprint: str, shown: list[str]) -> None:
    assert messages_of(blueprint, handlers=WRITERS) == shown


@pytest.mark.parametrize(
    ("uses", "severity"),
    [("silent", "error"), ("echo", None)],
)
def test_a_subflow_gives_nothing_that_its_child_cannot_have(uses: str, severity: str | None) -> None:
    child = read(f"id: child\nnodes: {{a: {{uses: {uses}}}}}", default_id="child")
    parent = "nodes: {p: {call: child, inputs: {x: x}, outputs: {y: nothing, z: a.b, v: x}}}"
    found = problems_of(parent, handlers=WRITERS, blueprints={"child": child})
    assert [diagnostic.severity for diagnostic in found] == ([severity] if severity else [])
    if severity:
        assert "'nothing' is no node or key of blueprint 'child', and nothing in it writes it" in str(found[0])


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("outputs: {out: a}", ["'nothing' is no output, node or key of blueprint 'child'", "'x'"]),
        ("inputs: {x: {required: false}}", ["'out.b' is no node or key of blueprint 'child'", "'nothing'"]),
        ("", []),
    ],
)
def test_a_subflow_with_a_contract_gives_what_is_in_it(head: str, shown: list[str]) -> None:
    child = read(f"id: child\n{head}\nnodes: {{a: {{uses: echo}}}}", default_id="child")
    parent = "nodes: {p: {call: child, outputs: {v: out.b, y: nothing, z: a.b, w: x}}}"
    found = problems_of(parent, handlers=WRITERS, blueprints={"child": child})
    assert [diagnostic.severity for diagnostic in found] == ["warning"] * len(shown)
    for part, diagnostic in zip(shown, found, strict=True):
        assert part in str(diagnostic) and "say so in `context:`" in str(diagnostic)


class Reader(BaseModel):
    path: str = "."


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: str = "."


class Settings(BaseModel):
    model: str = Field(default="m", alias="modelName")
    reader: Reader = Reader()
    readers: list[Reader] = []
    by_name: dict[str, Reader] = {}
    lenient: Lenient = Lenient()
    either: int = Field(default=1, validation_alias=AliasChoices("first", "second"))


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ("{modelName: x, reader: {path: a}, readers: [{path: b}], by_name: {x: {path: c}}, first: 1}", []),
        ("{second: 2, lenient: {anything: 1}}", []),
        ("{modelNmae: x}", ["nodes.a.params.modelNmae: handler 'set' has no such param; did you mean 'modelName'?"]),
        ("{model: x}", ["nodes.a.params.model: handler 'set' has no such param; did you mean 'modelName'?"]),
        ("{reader: {pth: a}}", ["nodes.a.params.reader.pth: handler 'set' has no such param; did you mean 'path'?"]),
        (
            "{readers: [{path: a}, {paht: b}], by_name: {x: {apth: c}}}",
            [
                "nodes.a.params.readers[1].paht: handler 'set' has no such param; did you mean 'path'?",
                "nodes.a.params.by_name.x.apth: handler 'set' has no such param; did you mean 'path'?",
            ],
        ),
    ],
)
def test_params_that_a_model_passes_over_are_misspelt(params: str, shown: list[str]) -> None:
    handlers = {"set": HandlerSpec(params=Settings)}
    assert messages_of(f"nodes: {{a: {{uses: set, params: {params}}}}}", handlers=handlers) == shown


def test_one_wrong_name_is_reported_once() -> None:
    text = "nodes: {a: {uses: echo, config: {fallback: cachd}}, cached: {uses: echo}}"
    assert messages_of(text) == ["nodes.a.config.fallback: no node 'cachd'; did you mean 'cached'?"]
    text = "nodes: {r: {uses: route, next: {yess: a, no: b}}, a: {uses: echo}, b: {uses: echo}}"
    (shown,) = messages_of(text)
    assert shown.startswith("nodes.r.next.yess: 'r' (route) never returns 'yess'")


def test_what_a_subflow_is_given_is_looked_for_too() -> None:
    text = "inputs: {rows: array}\nnodes: {m: {uses: map, inputs: rows, params: {call: child, inputs: {topic: item, tone: idx}}}}"
    (shown,) = messages_of(text)
    assert shown.startswith("nodes.m.params.inputs.tone: nothing writes 'idx'")
    assert messages_of(text.replace("topic: item, tone: idx", "topic: item")) == []
    assert not [each for each in messages_of(text.replace("idx", "index")) if "nothing writes" in each]


def test_with_handlers_unknown_nothing_is_shown_of_what_they_write() -> None:
    text = "inputs: {a: any}\nnodes: {n: {uses: writes}}\noutputs: {t: total}"
    assert messages_of(text, handlers=None) == []
    assert len(messages_of(text, handlers={"writes": HandlerSpec()})) == 1


def test_an_unknown_handler_may_write_what_nodes_read() -> None:
    blueprint = "inputs: {x: string}\nnodes: {a: {uses: nowhere, inputs: x}, b: {uses: echo, inputs: total, needs: a}}"
    assert [diagnostic.severity for diagnostic in problems_of(blueprint, handlers=WRITERS)] == ["error"]


def test_expressions_with_names_that_nothing_can_write() -> None:
    blueprint = (
        "inputs: {x: string}\nnodes: {a: {uses: silent}, b: {uses: silent}}\n"
        "edges: [{source: a, target: b, condition: anything > 1}]"
    )
    (found,) = problems_of(blueprint, handlers=WRITERS)
    assert "nothing writes 'anything': it is no node and not among the blueprint's inputs" in str(found)
    assert problems_of(blueprint.replace("uses: silent}, b", "uses: echo}, b"), handlers=WRITERS) == []


def test_a_pause_without_a_further_attempt_is_reported() -> None:
    blueprint = read(
        "nodes: {a: {uses: echo, config: {retryDelay: 1s}}, b: {uses: echo, config: {retryDelay: 1s, maxRetries: 2}}}"
    )
    for attempts, count in ((1, 1), (3, 0), (None, 0)):
        found = lint(blueprint, handlers=None, blueprints={}, max_attempts=attempts)
        assert [problem.path for problem in found if "has no effect" in problem.message] == [
            "nodes.a.config.retryDelay"
        ] * count


def test_a_pause_is_not_reported_where_the_attempts_could_not_be_read() -> None:
    text = "nodes: {a: {uses: echo, config: {retryDelay: 1s, maxRetries: three}}}"
    blueprint, mistakes = load_text(text)
    assert blueprint is not None
    assert [problem.path for problem in mistakes] == ["nodes.a.config.maxRetries"]
    assert not lint(blueprint, handlers=None, blueprints={}, max_attempts=1)


def test_models_and_servers_that_agents_name_are_those_of_the_deployment() -> None:
    blueprint = read(
        "nodes: {a: {uses: agent, params: {model: scriptd}}, b: {uses: agent, params: {model: [main, odd], mcp: [file]}},"
        " c: {uses: agent, params: {model: 'anthropic:claude'}}, d: {uses: agent}}"
    )
    found = lint(blueprint, handlers=None, blueprints={}, providers=("scripted", "main"), mcp_servers=("files",))
    assert [(problem.path, problem.message) for problem in found] == [
        ("nodes.a.params.model", "no provider 'scriptd' in llm.providers; did you mean 'scripted'?"),
        ("nodes.b.params.model[1]", "no provider 'odd' in llm.providers"),
        ("nodes.b.params.mcp[0]", "no MCP server 'file' in `mcp` of flowcraft.yaml; did you mean 'files'?"),
    ]
    assert not lint(blueprint, handlers=None, blueprints={})


def test_a_loop_controller_is_where_its_cycle_begins() -> None:
    loop = "nodes: {again: {uses: loop-controller, params: {condition: 'n < 3'}}, body: {uses: echo, next: again}, end: {uses: echo}}\n"
    edges = "edges:\n  - again -[continue]-> body\n  - again -[break]-> end\n"
    assert messages_of(loop + edges) == []
