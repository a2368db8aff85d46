"""Where a cycle begins that nothing leads into does not depend on whether all loops were looked for before."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_server.blueprints.graph import Graph
from flowcraft_server.blueprints.model import Blueprint, Edge, Node

KINDS = st.sampled_from(["echo", "echo", "echo", "loop-controller"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(KINDS, min_size=8, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16),
    st.lists(st.sampled_from("abcdefgh"), max_size=2),
)
def test_it_is_the_same_with_and_without_them(uses: list[str], pairs: list[tuple[int, int]], firsts: list[str]) -> None:
    names = "abcdefgh"
    nodes = tuple(Node(name, kind) for name, kind in zip(names, uses, strict=True))
    edges = tuple(Edge(names[one], names[two]) for one, two in pairs)
    blueprint = Blueprint("b", nodes, edges, cycle_entry_points=tuple(firsts))
    without, with_all = Graph(blueprint), Graph(blueprint)
    with_all.loops()
    assert with_all.unentered_cycles == without.unentered_cycles
    assert list(with_all.unentered_cycles) == list(without.unentered_cycles)
