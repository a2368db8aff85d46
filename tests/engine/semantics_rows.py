"""The probes S1 to S44 of the original's semantics as data: a blueprint, what a run of it must come to, and our rule where
we differ. Handlers are named in the blueprints; see test_semantics_rows.py."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One probe.

    Attributes:
        nodes: `{id: uses}` or `{id: {...}}`.
        edges: `source target [action]`, or whole edges.
        ctx: the start context.
        has: keys of the final context and their values.
        ran: nodes that completed, or failed and were caught; None to leave open.
        failure: text in the message of the first failure; the run is then failed.
        rule: ours, where we differ.
    """

    name: str
    nodes: dict[str, Any]
    edges: tuple[Any, ...] = ()
    ctx: dict[str, Any] = field(default_factory=dict)
    has: dict[str, Any] = field(default_factory=dict)
    ran: str | None = None
    failure: str = ""
    rule: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def say(value: Any = None, action: str | None = None, **more: Any) -> dict[str, Any]:
    """A node that returns a value and an action."""
    return {"uses": "say", "params": {"value": value, "action": action}, **more}


def edge(source: str, target: str, **words: str) -> dict[str, Any]:
    """An edge with a condition or a transform."""
    return {"source": source, "target": target, **words}


def routed(action: str | None, *edges: Any) -> dict[str, Any]:
    """A router `a` with the targets of its edges."""
    targets = [each.split()[1] if isinstance(each, str) else each["target"] for each in edges]
    return {"nodes": {"a": say(1, action), **dict.fromkeys(targets, "name")}, "edges": edges}


ANY = {"config": {"joinStrategy": "any"}}
LOOP = {"lc": {"uses": "loop-controller", "params": {"condition": "i < 3"}, **ANY}, "body": "up", "end": "echo"}
SCATTER = {
    "sc": {"uses": "batch-scatter", "inputs": "items", "params": {"workerUsesKey": "double", "gatherNodeId": "ga"}},
    "ga": {"uses": "batch-gather", "params": {"gatherNodeId": "ga", "outputKey": "results"}},
    "z": "echo",
}
SUB = {"uses": "subflow", "params": {"blueprintId": "sub"}}

ROWS = [
    Row("S1", {"a": say(1), "z": "plus1"}, ("a z",), {"seed": 9},
        has={"seed": 9, "_outputs.a": 1, "a": 1, "_inputs.z": 1, "_outputs.z": 2, "z": 2}),
    Row("S2", **routed("x", "a x x", "a y y", "a d"), ran="a x"),
    Row("S3", **routed("zzz", "a x x", "a d"), ran="a d"),
    Row("S4", **routed("x", {**edge("a", "x", condition="1 > 2"), "action": "x"}, "a d"), ran="a d"),
    Row("S5", **routed(None, "a x x", "a y y"), failure="returned no action; its edges take 'x', 'y'", ran="",
        rule="a dead end fails the node; the original ran both"),
    Row("S6", **routed("nope", "a x x", "a y y"), failure="returned the action 'nope'; its edges take 'x', 'y'", ran="",
        rule="a dead end fails the node; the original ran both"),
    Row("S7", **routed(None, edge("a", "x", condition="a > 0"), edge("a", "y", condition="a == 1"),
                       edge("a", "d", condition="a < 0")), ran="a x y"),
    Row("S8", **routed(None, edge("a", "x", condition="a > 5"), edge("a", "y", condition="a == 2")), ran="a"),
    Row("S9", {"a": say({"ok": True, "n": 3}), "x": "name", "y": "name", "d": "name"},
        (edge("a", "x", condition="result.output.ok"), edge("a", "y", condition="a.n"), edge("a", "d", condition="a.n > 0")),
        ran="a x y d", rule="comparisons work everywhere; one of the original's two evaluators rejects them"),
    Row("S10", {"a": say({"v": 3}), "z": "echo"}, (edge("a", "z", transform="input.v * 2 + context.k"),), {"k": 100}, {"z": 106}),
    Row("S11", {"a": say({"p": {"q": 7}}), "z": {"uses": "echo", "inputs": "a"}, "p": {"uses": "echo", "inputs": "a.p.q"},
                "k1": {"uses": "echo", "inputs": "k"}, "kj": {"uses": "echo", "inputs": "k.j"},
                "m": {"uses": "echo", "inputs": {"m": "a.p", "n": "k", "o": "nope", "p": "_outputs.a"}}},
        ("a z", "a p", "a k1", "a kj", "a m"), {"k": {"j": 5}},
        {"z": {"p": {"q": 7}}, "p": 7, "k1": {"j": 5}, "kj": 5,
         "m": {"m": {"q": 7}, "n": {"j": 5}, "o": None, "p": {"p": {"q": 7}}}},
        rule="a path reads into a context key; null in the original"),
    Row("S12", {"a": say("A"), "b": say("B"), "c": say("C"), "j": "echo"}, ("a j", "b j", "c j"), has={"j": "C"},
        rule="the edge that comes last in the blueprint, always; in the original a race"),
    Row("S13", {"r": say(None, "x"), "x": "name", "y": "name", "j": "echo"}, ("r x x", "r y y", "x j", "y j"),
        has={"j": "x"}, ran="r x j", rule="branches that are not taken do not count; the original never ran the join"),
    Row("S15", {"a": "name", "b": "name", "j": {"uses": "count", **ANY}}, ("a b", "a j", "b j"), has={"count": 1}, ran="a b j",
        rule="`any` runs once; in the original once for each predecessor"),
    Row("S16", {"a": "boom", "c": "name", "d": "name"}, ("a d",), failure="payment declined",
        rule="the message itself; the original's says only that the node failed"),
    Row("S17", {"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "name", "z": "echo", "own": "name"}, ("a z", "fb own"),
        has={"z": "fb", "a": None}, ran="a fb own z"),
    Row("S18", {"a": {"uses": "boom", "config": {"fallback": "fb"}}, "fb": "name", "u": "boom"}, failure="payment declined",
        rule="an unrelated failure fails the run; the original reported completed"),
    Row("S19", LOOP | {"init": say(0)}, ("init lc", "lc body continue", "body lc", edge("lc", "end", transform="body") |
        {"action": "break"}), {"i": 0}, {"i": 3, "end": 3, "lc": None}, "init lc body end"),
    Row("S20", SCATTER | {"z": "echo"}, ("sc ga", "ga z"), {"items": [1, 2, 3]},
        {"results": [2, 4, 6], "ga": [2, 4, 6], "z": [2, 4, 6], "_outputs.sc": {"gatherNodeId": "ga", "hasMore": False}}),
    Row("S21", SCATTER | {"sc": {**SCATTER["sc"], "params": {**SCATTER["sc"]["params"], "chunkSize": 2}}}, ("sc ga", "ga z"),
        {"items": [1, 2, 3, 4, 5]}, {"results": [2, 4, 6, 8, 10]}, rule="chunks work; the original's run fails"),
    Row("S22", SCATTER, ("sc ga", "ga z"), {"items": []}, {"results": [], "z": []}, "sc ga z"),
    Row("S23", SCATTER | {"sc": {**SCATTER["sc"], "params": {**SCATTER["sc"]["params"], "workerUsesKey": "boom"}}},
        ("sc ga", "ga z"), {"items": [1]}, failure="payment declined"),
    Row("S24", {"pre": say(5), "s": {"uses": "subflow", "params": {"blueprintId": "sub", "inputs": {"x": "k", "y": "pre"},
        "outputs": {"total": "add", "raw": "x"}}}, "z": "echo"}, ("pre s", "s z"), {"k": 1},
        {"total": 6, "raw": 1, "s": {"total": 6, "raw": 1}},
        rule="with `outputs` the node's output is what they name; the original's was the child's whole context"),
    Row("S25", {"s": {"uses": "subflow", "params": {"blueprintId": "two"}}, "t": {"uses": "subflow", "params": {"blueprintId": "one"}}},
        has={"s": {"u": "u", "v": "v"}, "t": "u"}),
    Row("S26", {"s": {"uses": "subflow", "params": {"blueprintId": "broken"}}}, failure="payment declined",
        rule="the inner message is kept; the original reported `Unknown error`"),
    Row("S27", {"a": "nobody"}, failure="no worker has a handler 'nobody'"),
    Row("S28", {"a": say({"error": {"message": "x"}}), "z": "echo"}, ("a z",), has={"z": {"error": {"message": "x"}}}),
    Row("S29", {"a": "none", "z": "echo"}, ("a z",), has={"a": None, "z": None},
        rule="no output is null; the original stored nothing"),
    Row("S30", {"a": "name", "z": "echo"}, ("a z",), {"_targetNode": "a"}, {"z": "a"},
        rule="there is no stepper: `_targetNode` is a key like others, and `stalled` cannot happen"),
    Row("S31", {"a": say(1, "go"), "c": say(2, "end")}, ("a c go", "c a back"), ran="a c", extra={"metadata": {"cycleEntryPoints": ["a"]}},
        failure="returned the action 'end'", rule="the entry point starts the cycle; an action that no edge takes fails"),
    Row("S38", {"a": {"uses": "third", "config": {"maxRetries": 3}}}, has={"a": 3}),
    Row("S41", {"a": say(1), "x": "name"}, (edge("a", "x", condition="nobody.knows > 1"),), ran="a"),
    Row("S42", {"a": say(100), "z": "echo"}, (edge("a", "z", transform="input + 1"), edge("a", "z", transform="input + 2")),
        has={"z": 102}),
    Row("S43", {"topic": say("out")}, (), {"topic": "T"}, {"topic": "T", "_outputs.topic": "out"},
        rule="a node's bare id never overwrites a key of the start context; the linter warns of the clash"),
    Row("S44", {"a": say(1, "stop"), "b": "name"}, ("a b again", "b a"), failure="returned the action 'stop'",
        extra={"metadata": {"cycleEntryPoints": ["a"]}}, rule="cycles are meant; there is no strict mode that throws"),
    Row("N1", {"a": say({"t": 10}), "z": {"uses": "echo", "inputs": {"x": "= a.t * k", "y": {"value": [1]}, "p": "a.t"}},
        "w": {"uses": "echo", "inputs": "= [a.t, no.such]"}}, ("a z", "a w"), {"k": 2},
        {"z": {"x": 20, "y": [1], "p": 10}, "w": [10, None]}, rule="what begins with `=` is an expression; the original has none there"),
    Row("N2", {"a": {"uses": "name", "config": {"compensate": "u"}}, "b": {"uses": "name", "config": {"compensate": "v"}}, "c": "boom",
        "u": {"uses": "echo", "inputs": "a"}, "v": "echo", "f": {"uses": "echo", "inputs": "_outcome.status"}}, ("a b", "b c"),
        has={"u": "a", "v": "b", "f": "failed"}, failure="payment declined", extra={"finally": ["f"]},
        rule="a run closes with its compensations and `finally`; the original has neither"),
    Row("N3", {"a": {"uses": "name", "config": {"compensate": "u"}}, "u": "echo", "f": "echo"}, ran="a f",
        has={"u": None, "f": {"status": "completed", "error": None, "reason": None}}, extra={"finally": ["f"]}),
]  # fmt: skip
CHILDREN: list[dict[str, Any]] = [
    {
        "id": "sub",
        "nodes": [{"id": "add", "uses": "addxy"}, {"id": "t2", "uses": "name"}],
        "edges": [{"source": "add", "target": "t2"}],
    },
    {"id": "one", "nodes": [{"id": "u", "uses": "name"}]},
    {"id": "two", "nodes": [{"id": "u", "uses": "name"}, {"id": "v", "uses": "name"}]},
    {"id": "broken", "nodes": [{"id": "u", "uses": "boom"}]},
]
