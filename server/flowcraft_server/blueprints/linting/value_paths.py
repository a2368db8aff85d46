"""Paths whose first name is right and whose rest leads nowhere, as far as it is known what the values look like."""

from collections.abc import Iterator, Mapping, Sequence

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.bounds import LONGEST_PATH
from flowcraft_sdk.protocol.expressions import Expression, ExpressionError, compile_expression
from flowcraft_sdk.protocol.sources import Source, compiled, is_expression
from flowcraft_server.blueprints.agent_params import AGENT, HOLE
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.source_reads import sources_of
from flowcraft_server.blueprints.linting.sources import expressions_of, handed_over
from flowcraft_server.blueprints.linting.value_shapes import ValueShapes, shapes_of
from flowcraft_server.blueprints.model import Node
from flowcraft_server.blueprints.schema_walk import Nowhere, Shape, shape_of, walk_shape
from flowcraft_server.blueprints.suggestions import listed

_ALIKE = 0.7
"""How much a name must look like a declared one where others are allowed too."""
_KINDS = {"object": "an object", "array": "a list", "integer": "an integer", "null": "null"}


def check_value_paths(findings: Findings) -> None:
    """Check every path of inputs, outputs, conditions, transforms and durations."""
    shapes = shapes_of(findings, findings.blueprint)
    for path, text in _plain(findings):
        parts = text.split(".")
        _note(findings, path, parts, *shapes.read(parts, lengths=False))
    for node in findings.set_up:
        for path, handed in handed_over(node):
            _check_handed(findings, shapes, node, path, handed)
        _check_returned(findings, node)
        _check_memory_key(findings, shapes, node)
    for path, text, own in expressions_of(findings):
        _check_expression(findings, shapes, path, _compiled(text), own)
    for index, edge in enumerate(findings.blueprint.edges):
        for part, written in (("condition", edge.condition), ("transform", edge.transform)):
            if written is not None:
                _check_of_edge(findings, shapes, ("edges", index, part), _compiled(written), edge.source)
    for node in findings.set_up:
        condition = node.params.get("condition") if node.uses == "loop-controller" else None
        if isinstance(condition, str):
            _check_expression(
                findings, shapes, node_path(node, "params", "condition"), _compiled(condition), ("result",)
            )


def _plain(findings: Findings) -> Iterator[tuple[Path, str]]:
    for node in findings.set_up:
        yield from _dotted(sources_of(node.inputs, node_path(node, "inputs")))
    yield from _dotted(sources_of(findings.blueprint.outputs, ("outputs",)))


def _dotted(sources: Iterator[tuple[Path, Source]]) -> Iterator[tuple[Path, str]]:
    """The paths with more than one part."""
    yield from (
        (path, each)
        for path, each in sources
        if isinstance(each, str) and "." in each and len(each) <= LONGEST_PATH and not is_expression(each)
    )


def _check_handed(findings: Findings, shapes: ValueShapes, node: Node, path: Path, source: Source) -> None:
    """What a node hands to the blueprint that it calls; what expressions read, but for the item, is checked with all others."""
    lengths = is_expression(source)
    for parts in _parts_read(source):
        if node.uses == "map" and parts[0] in ("item", "index"):
            item = _item(shapes, node) if parts[0] == "item" else shape_of({"type": "integer"})
            _note(findings, path, parts, 1, None if item is None else walk_shape(item, parts[1:], lengths=lengths))
        elif not lengths:
            _note(findings, path, parts, *shapes.read(parts, lengths=False))


def _item(shapes: ValueShapes, node: Node) -> Shape | None:
    """An item of the list that a batch goes through."""
    of_list = shapes.of_source(node.inputs)
    found = walk_shape(of_list, ["0"], lengths=False) if of_list is not None else None
    return None if isinstance(found, Nowhere) else found


def _check_returned(findings: Findings, node: Node) -> None:
    """What a node makes of the outcome of the blueprint that it calls: names are those of the child."""
    called, returned = called_id(node), node.params.get("outputs")
    child = findings.called(called) if called is not None else None
    if child is None or not isinstance(returned, Mapping):
        return
    given = node.params.get("inputs")
    within = shapes_of(findings, child)
    for path, source in sources_of(returned, node_path(node, "params", "outputs")):
        for parts in _parts_read(source):
            if len(parts) > 1 and not (isinstance(given, Mapping) and parts[0] in given):
                _note(findings, path, parts, *within.read_returned(parts, lengths=is_expression(source)))


def _parts_read(source: Source) -> list[Sequence[str]]:
    if not isinstance(source, str) or len(source) > LONGEST_PATH:  # of a longer one another check reports it
        return []
    if not is_expression(source):
        return [source.split(".")]
    expression = _compiled(source)
    return [_without_context(read) for read in sorted(expression.reads)] if expression is not None else []


def _check_memory_key(findings: Findings, shapes: ValueShapes, node: Node) -> None:
    """The holes in the key of an agent's memory: values of its input, else of the context."""
    memory = node.params.get("memory") if node.uses == AGENT else None
    if not isinstance(memory, str | Mapping) or not isinstance(node.inputs, Mapping):
        return
    key = memory if isinstance(memory, str) else memory.get("key")
    path = node_path(node, "params", "memory", *(() if isinstance(memory, str) else ("key",)))
    for name in HOLE.findall(key) if isinstance(key, str) else ():
        parts = name.split(".")
        if parts[0] not in node.inputs:
            _note(findings, path, parts, *shapes.read(parts, lengths=False))
            continue
        shape = shapes.of_source(node.inputs[parts[0]])
        if shape is not None:
            _note(findings, path, parts, 1, walk_shape(shape, parts[1:], lengths=False))


def _compiled(source: str) -> Expression | None:
    """None if it cannot be read, which is reported elsewhere."""
    try:
        return compiled(source) if is_expression(source) else compile_expression(source)
    except ExpressionError:
        return None


def _check_expression(
    findings: Findings, shapes: ValueShapes, path: Path, expression: Expression | None, own: Sequence[str]
) -> None:
    for read in sorted(expression.reads) if expression is not None else ():
        if read[0] not in own:
            parts = _without_context(read)
            _note(findings, path, parts, *shapes.read(parts, lengths=True))


def _check_of_edge(
    findings: Findings, shapes: ValueShapes, path: Path, expression: Expression | None, source: str
) -> None:
    _check_expression(findings, shapes, path, expression, ("result", "input"))
    output = shapes.of_node(source)
    for read in sorted(expression.reads) if expression is not None else ():
        if output is not None and read[:2] == ("result", "output"):
            _note(findings, path, read, 2, walk_shape(output, read[2:], lengths=True))


def _without_context(read: Sequence[str]) -> Sequence[str]:
    return read[1:] if read[0] == "context" and len(read) > 1 else read


def _note(findings: Findings, path: Path, parts: Sequence[str], first: int, found: Shape | Nowhere | None) -> None:
    """Report a path that leads nowhere.

    Args:
        first: how many of its parts name what it begins with.
        found: what it leads to from there.
    """
    if not isinstance(found, Nowhere):
        return
    at = first + found.at
    before, name = ".".join(parts[:at]), parts[at]
    if not found.certain:
        near = findings.nearest(name, found.names, _ALIKE)
        if near is not None:
            findings.warning(path, f"'{before}' has no '{name}'; did you mean '{near}'?")
        return
    if found.kind == "object":
        known = f"; it has {listed(found.names)}" if found.names else ""
        findings.warning(path, f"'{before}' has no '{name}'{findings.meant(name, found.names) or known}")
        return
    kind = _KINDS.get(found.kind, f"a {found.kind}")
    if found.kind == "array":
        way = ".".join([before, "0", name])
        findings.warning(path, f"'{before}' is a list and has no '{name}': read one of its items, as in {way}")
    else:
        findings.warning(path, f"'{before}' is {kind} and has no parts: '{before}.{name}' is always null")
