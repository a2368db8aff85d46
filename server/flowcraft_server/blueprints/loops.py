"""Which nodes form loops, where a loop begins, and which edges go back, lead in or leave.

A loop is a strongly connected part of the graph with one *header*; edges from inside to the header are back edges.
With the back edges removed, what is still strongly connected is an inner loop. The *region* of a loop is its cycle plus
the side branches that run in each iteration: nodes reached only from inside, over edges that do not decide to leave.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LOOP_CONTROLLER = "loop-controller"


@dataclass(frozen=True, slots=True)
class Link:
    """An edge as the loop search sees it. `decides`: it has an action or a condition. `side`: it never leaves a loop."""

    source: str
    target: str
    decides: bool = False
    side: bool = False


@dataclass(slots=True)
class Loop:
    """A loop: header, the nodes of its cycle, its whole region, and the header of the loop around it."""

    header: str
    cycle: set[str]
    region: set[str]
    parent: str | None


@dataclass(frozen=True)
class LoopForest:
    """All loops of a graph.

    Attributes:
        loops: by header, outer loops before inner ones.
        chain: for each node, the headers of the loops whose region it is in, outermost first.
        back: links (source, target) that go back to a header.
    """

    loops: Mapping[str, Loop]
    chain: Mapping[str, tuple[str, ...]]
    back: frozenset[tuple[str, str]]


def strongly_connected(nodes: Sequence[str], successors: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tarjan's components, iterative; each in the order of `nodes`."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    order = {node: i for i, node in enumerate(nodes)}
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(successors.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in order:
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(successors.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found.append(_pop_component(node, stack, on_stack, order))
    return found


def _pop_component(node: str, stack: list[str], on_stack: set[str], order: Mapping[str, int]) -> list[str]:
    component = []
    while True:
        member = stack.pop()
        on_stack.discard(member)
        component.append(member)
        if member == node:
            return sorted(component, key=order.__getitem__)


def find_loops(
    nodes: Mapping[str, str], links: Sequence[Link], entry_points: Sequence[str] = (), extra_starts: Iterable[str] = ()
) -> LoopForest:
    """Find all loops.

    Args:
        nodes: node id -> `uses`, in blueprint order.
        links: all edges, fallback and batch edges included.
        entry_points: preferred headers (`metadata.cycleEntryPoints`).
        extra_starts: nodes that start without an incoming edge from outside.
    """
    loops: dict[str, Loop] = {}
    back: set[tuple[str, str]] = set()
    _search(nodes, list(nodes), links, entry_points, set(extra_starts), None, loops, back)
    for loop in reversed(loops.values()):
        _add_side_branches(loop, loops, nodes, links)
    # A loop in a side branch was found beside the loop that it belongs to.
    loops = dict(sorted(loops.items(), key=lambda item: -len(item[1].region)))
    chain: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        chain[node] = tuple(header for header, loop in loops.items() if node in loop.region)
    for header, loop in loops.items():
        loop.parent = chain[header][-2] if len(chain[header]) > 1 else None
    return LoopForest(loops, chain, frozenset(back))


def _search(
    uses: Mapping[str, str],
    members: list[str],
    links: Sequence[Link],
    entry_points: Sequence[str],
    starts: set[str],
    parent: str | None,
    loops: dict[str, Loop],
    back: set[tuple[str, str]],
) -> None:
    inside = set(members)
    successors: dict[str, list[str]] = {node: [] for node in members}
    for link in links:
        if link.source in inside and link.target in inside and (link.source, link.target) not in back:
            successors[link.source].append(link.target)
    for component in strongly_connected(members, successors):
        cycle = set(component)
        if len(cycle) == 1 and component[0] not in successors[component[0]]:
            continue
        header = _choose_header(uses, component, links, back, entry_points, starts)
        loops[header] = Loop(header, cycle, set(cycle), parent)
        back.update((link.source, header) for link in links if link.source in cycle and link.target == header)
        _search(uses, component, links, entry_points, starts, header, loops, back)


def _choose_header(
    uses: Mapping[str, str],
    component: list[str],
    links: Sequence[Link],
    back: set[tuple[str, str]],
    entry_points: Sequence[str],
    starts: set[str],
) -> str:
    cycle = set(component)
    entered = {
        link.target
        for link in links
        if link.target in cycle and link.source not in cycle and (link.source, link.target) not in back
    } | (cycle & starts)
    stands_in = {
        link.target for link in links if link.side
    }  # a fallback or a gather begins no iteration if it can be helped
    candidates = [node for node in component if node in entered - stands_in]
    candidates = candidates or [node for node in component if node not in stands_in] or component
    for wanted in (
        [node for node in candidates if node in entry_points],
        [node for node in candidates if uses[node] == LOOP_CONTROLLER],
        [node for node in component if node in entry_points],
    ):
        if wanted:
            return wanted[0]
    return candidates[0]


def _add_side_branches(loop: Loop, loops: Mapping[str, Loop], uses: Mapping[str, str], links: Sequence[Link]) -> None:
    """Grow the region by nodes that run in each iteration though they lead nowhere back; a loop among them comes as a whole."""
    for inner in loops.values():
        if inner.parent == loop.header:
            loop.region |= inner.region
    deciding = {
        link.source
        for link in links
        if link.source in loop.cycle and link.target in loop.cycle and link.decides and not link.side
    }
    around = loops[loop.parent].cycle if loop.parent else set()
    unit = {node: {node} for node in uses}
    for other in sorted(loops.values(), key=lambda other: len(other.cycle)):
        if other.cycle.isdisjoint(loop.cycle):
            unit |= dict.fromkeys(other.cycle, other.cycle)
    incoming: dict[str, list[Link]] = {}
    for link in links:
        incoming.setdefault(link.target, []).append(link)
    grown = True
    while grown:
        grown = False
        for node in uses:
            if node in loop.region or node in around:
                continue
            ways_in = [link for part in unit[node] for link in incoming.get(part, ()) if link.source not in unit[node]]
            if ways_in and all(link.source in loop.region and not _leaves(link, deciding) for link in ways_in):
                loop.region |= unit[node]
                grown = True


def _leaves(link: Link, deciding: set[str]) -> bool:
    """Whether taking this edge means that the loop is left: its source chooses between going on and leaving."""
    return link.source in deciding and not link.side
