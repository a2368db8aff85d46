"""Which nodes form loops, where a loop begins, and which edges go back, lead in or leave.

A loop is a strongly connected part of the graph with one *header*; edges from inside to the header are back edges.
With the back edges removed, what is still strongly connected is an inner loop. The *region* of a loop is its cycle plus
the side branches that run in each iteration: nodes reached only from inside, over edges that do not decide to leave.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LOOP_CONTROLLER = "loop-controller"


class Link(NamedTuple):
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


def no_loops(nodes: Iterable[str]) -> LoopForest:
    """What is found in a graph without a cycle."""
    return LoopForest({}, dict.fromkeys(nodes, ()), frozenset())


def strongly_connected(nodes: Sequence[str], successors: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tarjan's components, iterative; each in the order of `nodes`."""
    done = len(nodes) + 1  # of what is in a component, and of what is none of the nodes: nothing is reached over it
    index = dict.fromkeys(nodes, 0)
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    order: dict[str, int] = {}
    count = 0
    for root in nodes:
        if index[root]:
            continue
        work = [(root, iter(successors.get(root, ())))]
        count += 1
        index[root] = low[root] = count
        stack.append(root)
        while work:
            node, rest = work[-1]
            least = low[node]
            for target in rest:
                place = index.get(target, done)
                if not place:
                    count += 1
                    index[target] = low[target] = count
                    stack.append(target)
                    work.append((target, iter(successors.get(target, ()))))
                    low[node] = least
                    break
                if place < least:
                    least = place
            else:
                work.pop()
                if least != index[node]:
                    above = work[-1][0]  # a root reaches nothing before it
                    if least < low[above]:
                        low[above] = least
                elif stack[-1] == node:
                    stack.pop()
                    index[node] = done
                    found.append([node])
                else:
                    order = order or {name: place for place, name in enumerate(nodes)}
                    first = _last_index(stack, node)
                    component = stack[first:]
                    del stack[first:]
                    for member in component:
                        index[member] = done
                    found.append(sorted(component, key=order.__getitem__))
    return found


def _last_index(stack: Sequence[str], node: str) -> int:
    at = len(stack) - 1
    while stack[at] != node:
        at -= 1
    return at


def cycles_of(nodes: Sequence[str], successors: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The strongly connected parts that hold a cycle, each in the order of `nodes`."""
    # What no way leads to is in no cycle: most graphs have few, and taking that away first is cheap.
    ways_in = dict.fromkeys(nodes, 0)
    for node in nodes:
        for target in successors.get(node, ()):
            if target in ways_in:
                ways_in[target] += 1
    free = [node for node, ways in ways_in.items() if not ways]
    for node in free:  # which grows
        for target in successors.get(node, ()):
            if target in ways_in:
                ways_in[target] -= 1
                if not ways_in[target]:
                    free.append(target)
    if len(free) == len(ways_in):
        return []
    outside = set(free)
    parts = strongly_connected([node for node in nodes if node not in outside], successors)
    return [part for part in parts if len(part) > 1 or part[0] in successors.get(part[0], ())]


def find_loops(
    nodes: Mapping[str, str],
    links: Sequence[Link],
    entry_points: Sequence[str] = (),
    extra_starts: Iterable[str] = (),
    deepest: int | None = None,
) -> LoopForest:
    """Find all loops. Takes time in proportion to the links, and to how deep loops are nested or lie in side branches of others.

    Args:
        nodes: node id -> `uses`, in blueprint order.
        links: all edges, fallback and batch edges included.
        entry_points: preferred headers (`metadata.cycleEntryPoints`).
        extra_starts: nodes that start without an incoming edge from outside.
        deepest: how many loops within each other are looked for; None for all. Where a node lies in as many, side branches of
            loops further out are not looked for.
    """
    search = _Search(nodes, links, entry_points, extra_starts)
    search.find(deepest)
    loops = search.loops
    branches = _SideBranches(search)
    around = dict.fromkeys(nodes, 0)
    for loop in reversed(loops.values()):
        branches.add_to(loop)
        for node in loop.region:
            around[node] += 1
        if deepest is not None and any(around[node] >= deepest for node in loop.region):
            break
    # A loop in a side branch was found beside the loop that it belongs to.
    loops = dict(sorted(loops.items(), key=lambda item: -len(item[1].region)))
    chains: dict[str, list[str]] = {node: [] for node in nodes}
    for header, loop in loops.items():
        for node in loop.region:
            chains[node].append(header)
    for header, loop in loops.items():
        loop.parent = chains[header][-2] if len(chains[header]) > 1 else None
    chain = {node: tuple(headers) for node, headers in chains.items()}
    return LoopForest(loops, chain, frozenset(search.back))


def find_outermost(nodes: Mapping[str, str], links: Sequence[Link], entry_points: Sequence[str] = ()) -> list[str]:
    """The headers of the loops that lie in no other one's cycle. Arguments as in `find_loops`."""
    search = _Search(nodes, links, entry_points, ())
    search.find(1)
    return list(search.loops)


class _Search:
    """The cycles of a graph, and those that are left in each without its back edges.

    Attributes:
        loops: by header, each before those inside of it; `region` is the cycle so far, `parent` the cycle around it.
        back: links to a header from inside of its cycle.
        outgoing: links by source.
        incoming: links by target.
    """

    def __init__(
        self, uses: Mapping[str, str], links: Sequence[Link], entry_points: Sequence[str], starts: Iterable[str]
    ) -> None:
        self.uses = uses
        self.loops: dict[str, Loop] = {}
        self.back: set[tuple[str, str]] = set()
        self.outgoing: dict[str, list[Link]] = {node: [] for node in uses}
        self.incoming: dict[str, list[Link]] = {node: [] for node in uses}
        for link in links:
            self.outgoing.setdefault(link.source, []).append(link)
            self.incoming.setdefault(link.target, []).append(link)
        self._entry_points = set(entry_points)
        self._starts = set(starts)
        self._controllers = {node for node, kind in uses.items() if kind == LOOP_CONTROLLER}
        # A fallback or a gather begins no iteration if it can be helped.
        self._stands_in = {link.target for link in links if link.side}

    def find(self, deepest: int | None) -> None:
        """Fill `loops` and `back`, down to loops that lie in this many others."""
        pending: list[tuple[str | None, Iterator[list[str]]]] = [
            (None, self._cycles(list(self.uses)))
        ]  # a stack and no recursion: loops may be nested deeply
        while pending:
            parent, cycles = pending[-1]
            component = next(cycles, None)
            if component is None:
                pending.pop()
                continue
            cycle = set(component)
            header = self._choose_header(component, cycle)
            self.loops[header] = Loop(header, cycle, set(cycle), parent)
            self.back.update((link.source, header) for link in self.incoming[header] if link.source in cycle)
            if deepest is None or len(pending) < deepest:
                pending.append((header, self._cycles(component)))

    def _cycles(self, members: list[str]) -> Iterator[list[str]]:
        inside = set(members)
        successors = {
            node: [
                link.target
                for link in self.outgoing[node]
                if link.target in inside and (node, link.target) not in self.back
            ]
            for node in members
        }
        yield from cycles_of(members, successors)

    def _choose_header(self, component: list[str], cycle: set[str]) -> str:
        def is_entered(node: str) -> bool:
            if node in self._starts:
                return True
            return any(
                link.source not in cycle and (link.source, node) not in self.back for link in self.incoming[node]
            )

        if self._entry_points.isdisjoint(cycle) and self._controllers.isdisjoint(cycle):  # the first one counts
            first = next((node for node in component if node not in self._stands_in and is_entered(node)), None)
            return first or next((node for node in component if node not in self._stands_in), component[0])
        candidates = [node for node in component if node not in self._stands_in and is_entered(node)]
        candidates = candidates or [node for node in component if node not in self._stands_in] or component
        for wanted in (
            [node for node in candidates if node in self._entry_points],
            [node for node in candidates if self.uses[node] == LOOP_CONTROLLER],
            [node for node in component if node in self._entry_points],
        ):
            if wanted:
                return wanted[0]
        return candidates[0]


class _SideBranches:
    """Grows the regions of loops by nodes that run in each iteration though they lead nowhere back.

    A node is one if all ways to it come out of the region, and none of them leaves the loop. A loop among them comes as a
    whole: it is entered from the region alone. The loops are to be given inner ones first.
    """

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._innermost: dict[str, str] = {}
        self._children: dict[str, list[Loop]] = {}
        self._inside: dict[str, int] = {}
        for header, loop in search.loops.items():
            for node in loop.cycle:
                self._innermost[node] = header
            if loop.parent is not None:
                self._children.setdefault(loop.parent, []).append(loop)

    def add_to(self, loop: Loop) -> None:
        """Complete the region of a loop."""
        loops = self._search.loops
        for inner in self._children.get(loop.header, ()):
            loop.region |= inner.region
        around: Collection[str] = ()
        ancestors, header = {loop.header}, loop.parent
        while header is not None:
            ancestors.add(header)
            around = loops[header].cycle  # that of the outermost one holds those of the others
            header = loops[header].parent
        deciding: dict[str, bool] = {}
        left: dict[str, int] = {}  # by unit: ways into it that do not come from the region, as far as is known
        pending = list(loop.region)
        while pending:
            source = pending.pop()
            for link in self._search.outgoing[source]:
                target = link.target
                if target in loop.region or target in around:
                    continue
                unit = self._unit_of(target, ancestors)
                known = left.get(unit)
                if known is None:
                    known = self._ways_into(unit, target)
                left[unit] = known - 1
                if source not in deciding:
                    deciding[source] = source in loop.cycle and self._decides(source, loop.cycle)
                if deciding[source] and not link.side:
                    left[unit] = -1  # it is left over this edge
                elif left[unit] == 0:
                    fresh = loops[unit[1:]].cycle if unit[0] == "L" else {target}
                    pending += fresh - loop.region
                    loop.region |= fresh

    def _decides(self, node: str, cycle: set[str]) -> bool:
        """Whether a node chooses between going on and leaving."""
        return any(link.target in cycle and link.decides and not link.side for link in self._search.outgoing[node])

    def _unit_of(self, node: str, ancestors: set[str]) -> str:
        """What a node comes with: the outermost loop that is beside the loop at hand, or the node alone."""
        header = self._innermost.get(node)
        if header is None or header in ancestors:
            return f"N{node}"
        while (parent := self._search.loops[header].parent) is not None and parent not in ancestors:
            header = parent
        return f"L{header}"

    def _ways_into(self, unit: str, node: str) -> int:
        """How many links lead into a unit from outside of it."""
        if unit not in self._inside:
            members = self._search.loops[unit[1:]].cycle if unit[0] == "L" else {node}
            self._inside[unit] = sum(
                link.source not in members for member in members for link in self._search.incoming[member]
            )
        return self._inside[unit]
