"""Opened nodes have room: no two boxes overlap, no edge that leads on crosses one, and nothing moves that need not."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_server.ui.drawing import NODE_HEIGHT, NODE_WIDTH
from flowcraft_server.ui.layout import Layout, lay_out
from flowcraft_server.ui.room import make_room, without_margins

NODE = (NODE_WIDTH, NODE_HEIGHT)
NAMES = [f"n{number}" for number in range(10)]
SIZES = st.tuples(st.floats(NODE_WIDTH, 2000), st.floats(NODE_HEIGHT, 1500))
EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=25)
Box = tuple[float, float, float, float]


def boxes(layout: Layout) -> dict[str, Box]:
    found = {}
    for name, (x, y) in layout.nodes.items():
        left, top, (width, height) = x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2, layout.frames.get(name, NODE)
        found[name] = (left, top, left + width, top + height)
    return found


@settings(max_examples=200, deadline=None)
@given(EDGES, st.dictionaries(st.sampled_from(NAMES), SIZES, max_size=4))
def test_any_graph_with_opened_nodes(edges: list[tuple[str, str]], frames: dict[str, tuple[float, float]]) -> None:
    before = lay_out(NAMES, edges)
    after = make_room(before, frames, NODE)
    drawn = boxes(after)
    for name, one in drawn.items():
        assert min(one) > 0 and one[2] < after.width and one[3] < after.height
        for other_name, other in drawn.items():
            if name < other_name:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                assert apart, (name, one, other_name, other)
    for name, (x, y) in before.nodes.items():
        wider = [before.nodes[each][0] for each in frames]
        higher = [before.nodes[each][1] for each in frames if before.nodes[each][0] == x]
        moved_x, moved_y = after.nodes[name]
        assert (moved_x == x) or any(each < x for each in wider)
        assert (moved_y == y) or any(each < y for each in higher)
    (left, top), (width, height) = without_margins(after, NODE)
    assert all(left <= box[0] and top <= box[1] and box[2] <= left + width + 0.1 for box in drawn.values())
    assert all(box[3] <= top + height + 0.1 for box in drawn.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=20), st.sampled_from(NAMES), SIZES)
def test_edges_that_pass_a_layer_pass_it_beside_the_opened_node(
    steps: list[tuple[int, int]], opened: str, size: tuple[float, float]
) -> None:
    edges = [(f"n{start}", f"n{min(start + step, 9)}") for start, step in steps]
    after = make_room(lay_out(NAMES, edges), {opened: size}, NODE)
    left, top, right, bottom = boxes(after)[opened]
    for pair, points in after.routes.items():
        if opened in pair:
            continue
        for (x, y), (next_x, next_y) in pairwise(points[1:-1]):
            inside = x < right and next_x > left and y == next_y and top < y < bottom
            assert not inside, (pair, points)


def test_without_opened_nodes_it_is_the_layout() -> None:
    layout = lay_out(NAMES[:3], [("n0", "n1"), ("n1", "n2")])
    assert make_room(layout, {}, NODE) is layout
