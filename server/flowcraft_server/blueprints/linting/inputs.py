"""Inputs that nothing writes, keys that hide nodes, and nodes that get more than one value at once."""

import re
from collections.abc import Iterator, Mapping, Set
from itertools import chain

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.paths import beginnings
from flowcraft_sdk.protocol.sources import Source, is_expression
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.source_reads import sources_of
from flowcraft_server.blueprints.linting.sources import handed_over
from flowcraft_server.blueprints.linting.writes import HOW_TO_DECLARE, all_known, writes, written_keys

CATCH_ERROR = "_catch_error"
CAUGHT = ("type", "message", "node", "details", "traceback", "attempts")
OUTCOME, COMPENSATES = "_outcome", "_compensates"
_OF_CLOSING = {OUTCOME: ("status", "error", "reason"), COMPENSATES: ("node", "instance", "item")}
"""What only nodes see that a run closes with, and its parts."""
_ENGINE_KEYS = ("_outputs", "_inputs", "_own", CATCH_ERROR, *_OF_CLOSING)
_TEMPLATE = re.compile(r"(?:\{\{|\$\{|\$\.)([^{}]*)")
"""How values are named in templates, in other systems and in JSONPath."""
_ALIKE = 0.85
"""How much a name must look like another one to be taken for a misspelling of it, when it may well be right."""


def check_inputs(findings: Findings) -> None:
    """Check what nodes and the run's result are made of."""
    keys = written_keys(findings)
    for path, name in _declared(findings):
        _check_source(findings, path, name, keys)
    for path, name in _conventional(findings):
        if not _is_known(findings, name, keys) and "." not in name:
            _suggest(findings, path, name, keys)
    _check_clashes(findings)


def _declared(findings: Findings) -> Iterator[tuple[Path, str]]:
    """Paths; a `map` may give the item and its index."""
    for node in findings.set_up:
        yield from _paths(sources_of(node.inputs, node_path(node, "inputs")))
        for path, source in _paths(handed_over(node)):
            if not (node.uses == "map" and source.partition(".")[0] in ("item", "index")):
                yield path, source
    yield from _paths(sources_of(findings.blueprint.outputs, ("outputs",)))


def _paths(sources: Iterator[tuple[Path, Source]]) -> Iterator[tuple[Path, str]]:
    """Those that are paths: expressions are checked elsewhere, and fixed values are what they are."""
    yield from ((path, source) for path, source in sources if isinstance(source, str) and not is_expression(source))


def _conventional(findings: Findings) -> Iterator[tuple[Path, str]]:
    """`params.inputs` of handlers that choose their values themselves: names of keys, or lists of candidates."""
    for node in findings.set_up:
        given = node.params.get("inputs")
        if not isinstance(given, Mapping) or called_id(node) is not None:
            continue
        for name, value in given.items():
            path = node_path(node, "params", "inputs", name)
            for index, candidate in enumerate(value) if isinstance(value, list) else ():
                if isinstance(candidate, str):
                    yield (*path, index), candidate
            if isinstance(value, str):
                yield path, value


def _is_known(findings: Findings, name: str, keys: Set[str]) -> bool:
    return name in findings.graph.nodes or name in keys or name.startswith("_")


def _check_source(findings: Findings, path: Path, name: str, keys: Set[str]) -> None:
    nodes = findings.graph.nodes
    base, dot, _ = name.partition(".")
    if name in nodes or name in keys:
        return
    if name.isascii() and name.isdigit():
        message = f"expected the path of a value, and there is no node or key '{name}'; write {{value: {name}}}"
        findings.error(path, message)
        return
    if (template := _TEMPLATE.match(name)) is not None:
        meant = template[1].strip() or "check.total"
        findings.error(
            path, f"expected the path of a value, which is no template: write {meant}, or an expression '= {meant}'"
        )
        return
    if base == CATCH_ERROR and path[:1] == ("nodes",):
        if path[1] not in findings.stand_ins:
            findings.warning(path, f"'{CATCH_ERROR}' is there for a node that is the fallback of another one")
        elif dot and (part := name[len(base) + 1 :].partition(".")[0]) not in CAUGHT:
            meant = findings.meant(part, CAUGHT)
            findings.warning(path, f"'{CATCH_ERROR}' has no '{part}'{meant or '; it has ' + ', '.join(CAUGHT)}")
        return
    if base in _OF_CLOSING and path[:1] == ("nodes",):
        if path[1] not in findings.blueprint.closing_nodes:
            findings.warning(path, f"'{base}' is there for nodes of 'finally' and compensations")
        elif dot and (part := name[len(base) + 1 :].partition(".")[0]) not in _OF_CLOSING[base]:
            known = _OF_CLOSING[base]
            findings.warning(
                path, f"'{base}' has no '{part}'{findings.meant(part, known) or '; it has ' + ', '.join(known)}"
            )
        return
    if name.startswith("_") and base not in _ENGINE_KEYS and (meant := findings.meant(base, _ENGINE_KEYS)):
        findings.warning(path, f"nothing writes '{base}'{meant}")
        return
    if name.startswith("_"):
        node = name[len(base) + 1 :]
        if base in ("_outputs", "_inputs", "_own") and dot and not any(key in nodes for key in beginnings(node)):
            findings.warning(path, f"there is no node '{node}'{findings.meant(node, nodes)}")
    elif dot:
        if base not in nodes and base not in keys:
            _check_key(findings, path, base, keys)
    else:
        _check_key(findings, path, name, keys)


def _check_key(findings: Findings, path: Path, name: str, keys: Set[str]) -> None:
    blueprint = findings.blueprint
    declared = blueprint.inputs_contract is not None or blueprint.context_keys is not None
    if declared and findings.handlers is not None:
        meant = findings.meant(name, chain(findings.graph.nodes, keys))
        if not meant and findings.has_unknown_handlers:
            return
        declare = "" if meant or all_known(findings, findings.blueprint) else HOW_TO_DECLARE
        message = f"nothing writes '{name}': it is no node and not among the blueprint's inputs{meant or declare}"
        findings.warning(path, message)
    else:
        _suggest(findings, path, name, keys)


def _suggest(findings: Findings, path: Path, name: str, keys: Set[str]) -> None:
    """Without a contract any key may be in the start context: only what looks like a misspelling is worth a word."""
    near = findings.nearest(name, chain(findings.graph.nodes, keys), _ALIKE)
    if near is not None and near != name:
        findings.warning(path, f"'{name}' is no node and no node writes it; did you mean '{near}'?")


def _check_clashes(findings: Findings) -> None:
    nodes = findings.graph.nodes
    for key in findings.blueprint.inputs_contract or {}:
        if key in nodes:
            message = f"a node is called '{key}' too: reading '{key}' gives this input, not the node's output"
            findings.warning(("inputs", key), message, key=True)
    for node_id, path, key in writes(findings.blueprint):
        if key in nodes and key != node_id:
            message = f"a node is called '{key}' too: reading '{key}' gives this value, not the node's output"
            findings.warning(path, message, key=path[-2] == "outputs")
