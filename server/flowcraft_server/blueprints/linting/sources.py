"""Expressions that stand where a path or a duration may stand: `= order.total * 1.2`."""

from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.expressions import ExpressionError
from flowcraft_sdk.protocol.sources import Source, compiled, is_expression, reads_whole_context
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.linting.conditions import check_keys, compiled_at, is_certain
from flowcraft_server.blueprints.linting.expression_types import KindOf, kind_of, misuses
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.source_reads import readable, sources_of
from flowcraft_server.blueprints.linting.writes import writes, written_keys
from flowcraft_server.blueprints.model import Node

DURATION_PARAMS: Mapping[str, tuple[str, ...]] = {
    "sleep": ("duration", "for"),
    "wait": ("timeout",),
    "webhook": ("timeout",),
}
"""Parameters that are durations, by kind of node."""

MOMENT = "until"
"""The parameter of the same kinds that is a point in time."""

_LISTS = ("map", "batch-gather")
"""Node kinds whose output is a list, whatever their handler returns."""


def handed_over(node: Node) -> Iterator[tuple[Path, Source]]:
    """What a node gives to the blueprint that it calls."""
    if called_id(node) is not None:
        yield from sources_of(node.params.get("inputs"), node_path(node, "params", "inputs"))


def check_sources(findings: Findings) -> None:
    """Check every expression among sources and durations."""
    keys, certain, known = written_keys(findings), is_certain(findings), known_kinds(findings)
    for path, source, own in expressions_of(findings):
        expression = compiled_at(findings, path, source)
        if expression is None:
            continue
        if reads_whole_context(source):
            findings.error(path, "'context' is no value here: read its keys, as in context.total or total")
        check_keys(findings, path, expression, keys, certain, own)
        for wrong in misuses(expression.source, known):
            findings.warning(path, wrong)
    for path, source in _durations(findings):
        _check_kind(findings, path, source, known)


def known_kinds(findings: Findings) -> KindOf:
    """Types of names, where they are declared and nothing else has the name."""
    kinds: KindOf = findings.keep(findings.blueprint, "kinds", lambda: _known_kinds(findings))
    return kinds


def _known_kinds(findings: Findings) -> KindOf:
    blueprint = findings.blueprint
    declared: Mapping[str, Any] = {**(blueprint.context_keys or {}), **(blueprint.inputs_contract or {})}
    written = {key for _, _, key in writes(blueprint)}

    def known(name: str) -> str | None:
        node = findings.graph.nodes.get(name)
        if node is not None:
            return "array" if node.uses in _LISTS and node.config.fallback is None and name not in declared else None
        rule = declared.get(name)
        return None if rule is None or name in written else rule.get("type")

    return known


def readable_kind(source: Source, known: KindOf) -> str | None:
    """The type that a source gives, None if that is not known."""
    if not isinstance(source, str) or not is_expression(source):
        return None
    try:
        return kind_of(compiled(source).source, known)
    except ExpressionError:
        return None


def expressions_of(findings: Findings) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Each with its place and the names that mean something of their own there."""
    for node in findings.set_up:
        for path, source in sources_of(node.inputs, node_path(node, "inputs")):
            if is_expression(source):
                yield path, str(source), ()
        for path, source in handed_over(node):
            if is_expression(source):
                yield path, str(source), ("item", "index") if node.uses == "map" else ()
        if called_id(node) is not None:
            yield from _returned(findings, node)
        for path, source in _times(findings, node):
            yield path, source, ("input", "item", "index") if node.uses in ("map", "batch-scatter") else ("input",)
    for path, source in sources_of(findings.blueprint.outputs, ("outputs",)):
        if is_expression(source):
            yield path, str(source), ()


def _returned(findings: Findings, node: Node) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """What a node makes of the outcome of the blueprint that it calls: names are those of the child, see `check_subflows`."""
    for path, source in sources_of(node.params.get("outputs"), node_path(node, "params", "outputs")):
        if is_expression(source):
            yield path, str(source), tuple(read.partition(".")[0] for read in readable(source))


def _times(findings: Findings, node: Node) -> Iterator[tuple[Path, str]]:
    """Expressions that give a duration or a point in time."""
    if node.config.timeout_from is not None:
        yield _setting(findings, node, "timeout"), node.config.timeout_from
    delay = node.config.retry_delay
    if delay is not None and delay.initial_from is not None:
        path = _setting(findings, node, "retryDelay")
        first = (*path, "initial")
        yield first if first in findings.blueprint.positions.values else path, delay.initial_from
    for name in (*DURATION_PARAMS.get(node.uses, ()), MOMENT) if node.uses in DURATION_PARAMS else ():
        value = node.params.get(name)
        if is_expression(value):
            yield node_path(node, "params", name), str(value)


def _setting(findings: Findings, node: Node, key: str) -> Path:
    """Where a node has a setting from: its own `config`, or the `defaults` of all nodes."""
    written, path, of_all = findings.blueprint.positions.values, node_path(node, "config", key), ("defaults", key)
    return of_all if path not in written and of_all in written else path


def _durations(findings: Findings) -> Iterator[tuple[Path, str]]:
    for node in findings.set_up:
        yield from _times(findings, node)


def _check_kind(findings: Findings, path: Path, source: str, known: KindOf) -> None:
    kind = readable_kind(source, known)
    wanted = ("string",) if path[-1] == MOMENT else ("string", "duration")
    if kind is None or kind in wanted:
        return
    if path[-1] == MOMENT:
        findings.error(path, f"expected a time, such as meeting.start - 10m; this gives a {kind}: the node would fail")
        return
    instead = ": write * 1s behind it, or another unit" if kind == "number" else ""
    findings.error(path, f"expected a duration, and this gives a {kind}, which the node would fail with{instead}")
