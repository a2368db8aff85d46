"""Inputs taken from nodes that need not have run by then, or from keys that such nodes write."""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from itertools import chain

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.reachability import Ways
from flowcraft_server.blueprints.linting.source_reads import readable, sources_of
from flowcraft_server.blueprints.linting.sources import handed_over
from flowcraft_server.blueprints.linting.writes import writes, written_keys
from flowcraft_server.blueprints.model import Node
from flowcraft_server.blueprints.suggestions import listed


def check_order(findings: Findings) -> None:
    """Check that a way leads from each node to those that read its output."""
    keys = written_keys(findings)
    before: Mapping[str, set[str]] | None = None
    written_by_nodes = _keys_written_by_nodes(findings)
    readers = _readers(findings) if written_by_nodes else Counter[str]()
    behind: dict[str, set[str] | None] = {}
    ways: Ways | None = None
    for node in findings.set_up:
        if node.id in findings.blueprint.closing_nodes:
            continue  # what it reads may be there or not: that is how it sees how far the run came
        names = list(_reads(node))
        reads = [(path, source) for path, name in names if (source := _read_node(findings, name, keys))]
        written = (
            [(path, name, writers) for path, name in names if (writers := written_by_nodes.get(name.partition(".")[0]))]
            if written_by_nodes
            else []
        )
        if not reads and not written:
            continue
        before = before if before is not None else _sources(findings)
        if all(source in before[node.id] for _, source in reads) and not written:
            continue
        ways = ways if ways is not None else Ways(list(findings.graph.nodes), before)
        for path, source in reads:
            if not ways.lead(source, node.id):
                message = f"'{source}' may not have run by then: no way leads from it to '{node.id}'"
                own = "this is the node's own output, which is not there before it has run"
                findings.consequence(path, own if source == node.id else message)
        for path, name, writers in written:
            if not _comes_after(ways, node.id, writers, name.partition(".")[0], readers, behind):
                sources = listed(f"'{writer}'" for writer in writers)
                message = f"'{name}' may not have been written by then: no way leads from {sources} to '{node.id}'"
                findings.consequence(path, message)


def _readers(findings: Findings) -> Counter[str]:
    """How often each key is read."""
    return Counter(name.partition(".")[0] for node in findings.set_up for _, name in _reads(node))


def _comes_after(
    ways: Ways,
    node_id: str,
    writers: list[str],
    key: str,
    readers: Mapping[str, int],
    behind: dict[str, set[str] | None],
) -> bool:
    """Whether a way leads to a node from one of those that write a key.

    Args:
        behind: by key, the nodes behind those that write it: looked for once where that is less than to look for each reader.
    """
    if len(writers) * readers[key] <= len(ways):
        return any(ways.lead(writer, node_id) for writer in writers)
    if key not in behind:
        behind[key] = ways.behind(writers)
    found = behind[key]
    return found is None or node_id in found


def _keys_written_by_nodes(findings: Findings) -> dict[str, list[str]]:
    """The nodes that are set to write a key, by key, where it is certain that nothing else writes it.

    Without a contract a key may be in the start context as well.
    """
    blueprint = findings.blueprint
    if blueprint.inputs_contract is None:
        return {}
    others = {*blueprint.inputs_contract, *(blueprint.context_keys or {}), *findings.graph.nodes}
    found: dict[str, list[str]] = {}
    for node_id, _, key in writes(blueprint):
        if key not in others:
            found.setdefault(key, []).append(node_id)
    return found


def _sources(findings: Findings) -> dict[str, set[str]]:
    """For each node, those that its incoming arcs come from, and its fallback: that one runs before its edges are taken."""
    before = {node_id: {arc.source for arc in arcs} for node_id, arcs in findings.graph.incoming.items()}
    for node in findings.set_up:
        if node.config.fallback in before:
            before[node.id].add(node.config.fallback)
    return before


def _reads(node: Node) -> Iterator[tuple[Path, str]]:
    """Where a node's values come from: its inputs, and what a subflow is given."""
    for path, source in chain(sources_of(node.inputs, node_path(node, "inputs")), handed_over(node)):
        yield from ((path, name) for name in readable(source))


def _read_node(findings: Findings, name: str, keys: Set[str]) -> str | None:
    """The node whose output a name reads; None if it reads a key."""
    nodes = findings.graph.nodes
    if name.startswith("_outputs.") and name not in nodes:
        name = name.removeprefix("_outputs.")
    elif name in keys:
        return None
    if name in nodes:
        return name
    base = name.partition(".")[0]
    return base if base in nodes else None
