"""Blueprints that once took longer than linear time, or might: by name, made in any size."""

from collections.abc import Callable
from typing import Any

Made = dict[str, Any]
Edges = list[dict[str, Any]]


def node(name: object, uses: str = "echo", **more: Any) -> Made:
    """A node."""
    return {"id": f"n{name}", "uses": uses, **more}


def edge(source: object, target: object, **more: Any) -> Made:
    """An edge between two nodes of `node`."""
    return {"source": f"n{source}", "target": f"n{target}", **more}


def plain(nodes: list[Made], edges: Edges | None = None, **more: Any) -> Made:
    """A blueprint in the plain form."""
    return {"id": "b", "nodes": nodes, "edges": edges or [], **more}


def ladder(count: int) -> Made:
    """Two chains whose nodes meet in pairs: each meeting is as far from where the ways part as it is down the ladder."""
    nodes, edges = [node("r")], []
    for i in range(count // 3):
        nodes += [node(f"{name}{i}") for name in "abc"]
        edges += [edge(f"{name}{i}", f"c{i}") for name in "ab"]
        edges += [edge(f"{name}{i - 1}" if i else "r", f"{name}{i}") for name in "ab"]
    return plain(nodes, edges)


def comb(count: int) -> Made:
    """A chain, each of whose nodes leads to the last one too, the far ones first."""
    edges = [edge(i, i + 1) for i in range(count - 1)] + [edge(i, "z") for i in reversed(range(count))]
    return plain([*(node(i) for i in range(count)), node("z")], edges)


def branches_with_loops(count: int) -> Made:
    """Loops, each in a side branch of the one before."""
    nodes, edges = [], []
    for i in range(count // 2):
        nodes += [node(f"h{i}", "route"), node(f"x{i}", "route")]
        edges += [edge(f"h{i}", f"x{i}"), edge(f"x{i}", f"h{i}", action="again")]
        edges += [edge(f"h{i - 1}", f"h{i}")] if i else []
    return plain(nodes, edges)


def loops_side_by_side(count: int) -> Made:
    """Loops that share the edges into them and out of them."""
    nodes, edges = [node("s"), node("z")], []
    for i in range(count // 3):
        nodes += [node(f"{name}{i}", "route") for name in "abc"]
        edges += [edge("s", f"a{i}"), edge(f"a{i}", f"b{i}", action="on"), edge(f"b{i}", f"c{i}", action="on")]
        edges += [edge(f"c{i}", f"a{i}", action="again"), edge(f"c{i}", "z", action="done")]
    return plain(nodes, edges)


def loops_in_a_ring(count: int) -> Made:
    """Loops of two within loops of 100."""
    nodes, edges = [], []
    for i in range(count // 2):
        nodes += [node(f"a{i}", "route"), node(f"b{i}", "route")]
        edges += [edge(f"a{i}", f"b{i}", action="on"), edge(f"b{i}", f"a{i}", action="again")]
        edges += [edge(f"b{i - 1}", f"a{i}", action="on")] if i else []
        edges += [edge(f"b{i}", f"a{i - 49}", action="round")] if i % 50 == 49 else []
    return plain(nodes, edges)


def loops_with_many_entries(count: int) -> Made:
    """Rings of ten with chords, each entered at three nodes."""
    nodes, edges = [node("s")], []
    for i in range(count // 10):
        nodes += [node(f"{i}_{k}", "route") for k in range(10)]
        edges += [edge(f"{i}_{k}", f"{i}_{(k + 1) % 10}", action="on") for k in range(10)]
        edges += [edge(f"{i}_{k}", f"{i}_{(k + 5) % 10}", action="over") for k in range(10)]
        edges += [edge("s", f"{i}_{k}") for k in (0, 3, 7)]
    return plain(nodes, edges)


def closed_cycles(count: int) -> Made:
    """Cycles of two that nothing leads into."""
    return plain([node(i, "route") for i in range(count)], [edge(i, i ^ 1, action="on") for i in range(count // 2 * 2)])


def fallbacks_that_lead_back(count: int) -> Made:
    """In each of many loops a node whose fallback leads back to it."""
    nodes, edges = [node("s", "route")], []
    for i in range(count // 4):
        nodes += [node(f"h{i}", "route"), node(f"a{i}", "route", config={"fallback": f"nf{i}"})]
        nodes += [node(f"b{i}", "route"), node(f"f{i}")]
        edges += [edge("s", f"h{i}"), edge(f"h{i}", f"a{i}", action="on"), edge(f"a{i}", f"b{i}")]
        edges += [edge(f"b{i}", f"h{i}", action="again"), edge(f"f{i}", f"a{i}")]
    return plain(nodes, edges)


def fallbacks_around_loops(count: int) -> Made:
    """Loops of 20, in each of which every node is the fallback of the one before."""
    nodes, edges = [], []
    for i in range(count // 20):
        for k in range(20):
            config = {"config": {"fallback": f"n{i}_{k + 1}"}} if k < 19 else {}
            nodes.append(node(f"{i}_{k}", "route", **config))
            edges.append(edge(f"{i}_{k}", f"{i}_{(k + 1) % 20}", action="on"))
    return plain(nodes, edges)


def errors_read_by_all(count: int) -> Made:
    """Nodes that read a caught error, and are no fallbacks."""
    return plain([node(i, inputs={"e": "_catch_error.message"}) for i in range(count)])


def unknown_names(count: int) -> Made:
    """Nodes that read what nothing writes, where it is known what is written."""
    nodes = [node(i, inputs={"e": f"nowhere{i}"}) for i in range(count)]
    return plain(nodes, inputs={"a": {"type": "any"}}, context={})


def one_key(count: int) -> Made:
    """A key that one half of the nodes writes and the other half reads."""
    nodes = [node(i, params={"outputKey": "k"}) for i in range(count // 2)]
    return plain([*nodes, *(node(f"r{i}", inputs="k") for i in range(count // 2))], inputs={"a": {"type": "any"}})


def reads_across(count: int) -> Made:
    """Nodes that read others from which no way leads to them."""
    return plain([node(i, inputs=f"n{i * 7919 % count}") for i in range(count)])


def actions_of_one_node(count: int) -> Made:
    """A node with an action for each of its edges, and as many that no edge takes."""
    actions = [f"a{i}" for i in range(2 * count)]
    edges = [edge("w", "t", action=f"a{i}") for i in range(count)]
    return plain([node("w", "wait", params={"actions": actions}), node("t")], edges)


def wrong_actions(count: int) -> Made:
    """A node with many actions, and edges for others."""
    actions = [f"a{i}" for i in range(count)]
    edges = [edge("w", "t", action=f"q{i}") for i in range(count)]
    return plain([node("w", "wait", params={"actions": actions}), node("t")], edges)


def actions_of_a_fallback(count: int) -> Made:
    """Nodes that share a fallback with many actions."""
    fallback = node("f", "wait", params={"actions": [f"a{i}" for i in range(count)]})
    nodes = [node(i, "wait", params={"actions": ["x"]}, config={"fallback": "nf"}) for i in range(count)]
    return plain([fallback, *nodes, node("z")], [edge(i, "z", action="x") for i in range(count)])


def one_gather(count: int) -> Made:
    """Batches that share a gather, to which many edges lead too."""
    params = {"workerUsesKey": "echo", "gatherNodeId": "ng"}
    nodes = [node(f"s{i}", "batch-scatter", inputs="n0", params=params) for i in range(count // 2)]
    before = [node(i) for i in range(count // 2)]
    return plain([*before, node("g", "batch-gather"), *nodes], [edge(i, "g") for i in range(count // 2)])


def unknown_nodes(count: int) -> Made:
    """Edges to nodes that are not there."""
    return plain([node(i) for i in range(count)], [edge(i, f"x{i}") for i in range(count)])


def unknown_handlers(count: int) -> Made:
    """Nodes each of which uses a handler that is not there."""
    return plain([node(i, f"handler_number_{i}") for i in range(count)])


def the_same_edges(count: int) -> Made:
    """One edge, written many times."""
    return plain([node(0), node(1)], [edge(0, 1) for _ in range(count)])


def never_run(count: int) -> Made:
    """Nodes that no action leads to, and one behind all of them."""
    edges = [edge("r", i, action="no") for i in range(count)] + [edge(i, "z") for i in range(count)]
    return plain([node("r", "wait", params={"actions": ["yes"]}), node("z"), *map(node, range(count))], edges)


def deep_params(count: int) -> Made:
    """Params 60 levels deep."""
    value: Any = 1
    for _ in range(60):
        value = {"a": value}
    return plain([node(i, params={"p": value}) for i in range(count // 10)])


def wide_mappings(count: int) -> Made:
    """One node with many params, one with many inputs, and a run with many inputs and outputs."""
    names = [f"k{i}" for i in range(count)]
    nodes = [node(0, params=dict.fromkeys(names, 1)), node(1, inputs=dict.fromkeys(names[:1000], "n0"))]
    contract = {name: {"type": "string", "enum": ["a", "b"], "default": "a"} for name in names}
    return plain(nodes, [edge(0, 1)], inputs=contract, outputs={f"o{i}": f"n0.x{i}" for i in range(count)})


def large_schemas(count: int) -> Made:
    """A wait with a large schema."""
    schema = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(count)}}
    return plain([node(0, "wait", params={"schema": schema})])


def conditions(count: int) -> Made:
    """A condition on each edge, with names of its own."""
    text = "result.output.v > {0} and (context.k{0} == 1 or n{0}.a.b.c in [1, 2, 3])"
    edges = [edge(i, i + 1, condition=text.format(i)) for i in range(count - 1)]
    return plain([node(i) for i in range(count)], edges)


def long_expressions(count: int) -> Made:
    """Expressions of nearly 4,096 characters."""
    text = " and ".join(f"a{i}.b" for i in range(400))
    return plain(
        [node(i) for i in range(count // 50)], [edge(i, i + 1, condition=text) for i in range(count // 50 - 1)]
    )


def many_tests(count: int) -> Made:
    """Test cases that lack each of many inputs, and mock an action that no edge takes."""
    actions = [f"a{i}" for i in range(count)]
    contract = {f"i{i}": {"type": "string", "enum": [f"e{k}" for k in range(5)]} for i in range(count)}
    cases = [
        {"name": f"t{i}", "input": {f"i{i}": "wrong"}, "mocks": {"n0": {"action": "other"}}, "expect": {"ran": ["n1"]}}
        for i in range(count)
    ]
    edges = [edge(0, 1, action=action) for action in actions]
    return {**plain([node(0, "route"), node(1)], edges, inputs=contract), "tests": cases}


def what_defaults_give(count: int) -> Made:
    """Names of errors that are given to all nodes."""
    return plain([node(i) for i in range(count)], defaults={"nonRetryable": [f"E{i}" for i in range(count)]})


def calls_of_one(count: int) -> Made:
    """Calls of one blueprint, with names that it may have."""
    params = [{"blueprintId": "child", "outputs": {f"k{i}": f"c{i}"}} for i in range(count)]
    return plain([node(i, "subflow", params=params[i]) for i in range(count)])


SHAPES: dict[str, Callable[[int], Made]] = {
    make.__name__.replace("_", " "): make
    for make in (
        ladder, comb, branches_with_loops, loops_side_by_side, loops_in_a_ring, loops_with_many_entries, closed_cycles,
        fallbacks_that_lead_back, fallbacks_around_loops, errors_read_by_all, unknown_names, one_key, reads_across,
        actions_of_one_node, wrong_actions, actions_of_a_fallback, one_gather, unknown_nodes, unknown_handlers,
        the_same_edges, never_run, deep_params, wide_mappings, large_schemas, conditions, long_expressions, many_tests,
        what_defaults_give, calls_of_one,
    )
}  # fmt: skip


def child(count: int) -> Made:
    """The blueprint that `calls_of_one` calls."""
    return {**plain([node(i) for i in range(count)]), "id": "child"}
