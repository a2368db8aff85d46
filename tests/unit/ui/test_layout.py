"""Every node has a place of its own, and every edge leads from its source to its target."""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowcraft_server.ui.layout import LAYER_DISTANCE, lay_out

NAMES = [f"n{number}" for number in range(14)]
GRAPHS = st.tuples(
    st.integers(0, len(NAMES)).map(lambda count: NAMES[:count]),
    st.lists(st.tuples(st.sampled_from([*NAMES, "unknown"]), st.sampled_from([*NAMES, "unknown"])), max_size=40),
)


@settings(max_examples=300, deadline=None)
@given(GRAPHS)
@example((NAMES[:1], [("n0", "n0")]))
@example((NAMES[:2], [("n0", "n1"), ("n1", "n0"), ("n0", "n1")]))
@example((NAMES[:6], [("n0", "n1"), ("n2", "n3"), ("n3", "n2")]))
def test_any_graph(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    nodes, edges = graph
    layout = lay_out(nodes, edges)
    assert set(layout.nodes) == set(nodes)
    assert len(set(layout.nodes.values())) == len(nodes), "no two at one place"
    assert all(0 < x < layout.width and 0 < y < layout.height for x, y in layout.nodes.values())
    assert set(layout.routes) == {(a, b) for a, b in edges if a in layout.nodes and b in layout.nodes}
    for (source, target), points in layout.routes.items():
        assert points[0] == layout.nodes[source]
        assert points[-1] == layout.nodes[target]
        assert (len(points) == 1) == (source == target)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=25))
def test_without_cycles_edges_lead_to_the_right(steps: list[tuple[int, int]]) -> None:
    nodes = [f"n{number}" for number in range(20)]
    edges = [(f"n{start}", f"n{start + step}") for start, step in steps]
    layout = lay_out(nodes, edges)
    for points in layout.routes.values():
        assert all(b[0] - a[0] >= LAYER_DISTANCE - 1 for a, b in itertools.pairwise(points))


def test_boxes_do_not_overlap() -> None:
    layout = lay_out(NAMES, [("n0", name) for name in NAMES[1:9]] + [(name, "n9") for name in NAMES[1:9]])
    places = sorted(layout.nodes.values())
    assert all(b[0] > a[0] or b[1] - a[1] >= 60 for a, b in itertools.pairwise(places))


def test_the_same_graph_looks_the_same() -> None:
    edges = [("n0", "n1"), ("n1", "n2"), ("n2", "n0"), ("n0", "n3")]
    assert lay_out(NAMES, edges) == lay_out(NAMES, edges)
