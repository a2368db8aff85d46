"""Inputs that nothing in the blueprint reads, where that can be known."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk.protocol.bounds import LONGEST_PATH
from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression
from flowcraft_sdk.protocol.paths import beginnings
from flowcraft_server.blueprints.agent_params import AGENT
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.source_reads import readable, sources_of
from flowcraft_server.blueprints.linting.writes import WORKER, of_each_handler
from flowcraft_server.blueprints.model import BUILTIN_USES, Node
from flowcraft_server.blueprints.suggestions import suggested

_WORD = re.compile(r"[^\s{}()\[\]'\",;:|+*/=<>!?&]+")


def check_unread_inputs(findings: Findings) -> None:
    """Warn of inputs that no source, condition or param names, and no handler reads from the context.

    Nothing is reported where a handler may read any key, and where the run's result is its whole context.
    """
    blueprint = findings.blueprint
    if not blueprint.inputs_contract or blueprint.outputs is None or findings.handlers is None:
        return
    if any(diagnostic.severity == "error" for diagnostic in findings.diagnostics):
        return  # what is wrong may have been meant to read them
    unread = dict.fromkeys(blueprint.inputs_contract)
    for name in _named(findings):
        unread.pop(name, None)
        if not unread:
            return
    if any(node.uses == AGENT and node.params.get("tools") for node in findings.set_up):
        return  # a tool may read the context as any handler does
    for node in of_each_handler(blueprint):
        reads = _read_by(findings, node)
        if reads is None:
            return
        for key in reads:
            for name in beginnings(key):
                unread.pop(name, None)
    for returned in findings.catalog.returned_from.get(blueprint.id, ()) if unread else ():
        for name in _words(returned):
            unread.pop(name, None)
    meant = suggested(diagnostic.message for diagnostic in findings.diagnostics) if unread else ()
    for name in unread:
        if name not in meant:  # else what is read in its place is misspelt, and reported
            findings.warning(("inputs", name), f"nothing reads the input '{name}'", key=True)


def _beginnings(path: str) -> list[str]:
    """What a path may begin with; of a longer one than any may be, another check reports it."""
    return beginnings(path) if len(path) <= LONGEST_PATH else []


def _named(findings: Findings) -> Iterator[str]:
    """All that sources, expressions and params may mean by a name."""
    blueprint = findings.blueprint
    for _, source in sources_of(blueprint.outputs, ("outputs",)):
        for path in readable(source):
            yield from _beginnings(path)
    for node in findings.set_up:
        for _, source in sources_of(node.inputs, ()):
            for path in readable(source):
                yield from _beginnings(path)
        yield from _words(node.params)
        if node.config.timeout_from is not None:
            yield from _words(node.config.timeout_from)
        if node.config.retry_delay is not None and node.config.retry_delay.initial_from is not None:
            yield from _words(node.config.retry_delay.initial_from)
    for edge in blueprint.edges:
        for expression in (edge.condition, edge.transform):
            yield from _names_in(expression) if expression is not None else ()


def _names_in(expression: str) -> Iterator[str]:
    try:
        reads = compile_expression(expression).reads
    except ExpressionError:
        yield from _words(expression)
        return
    for read in reads:
        yield from _beginnings(".".join(read))
        yield from _beginnings(".".join(read[1:])) if read[0] == "context" and len(read) > 1 else ()


def _words(value: Any) -> Iterator[str]:
    """Every word in the texts of params: handlers may fill in templates, and read the keys that they are given the names of."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            for word in _WORD.findall(part):
                parts = word.split(".")
                yield from _beginnings(word)
                yield from parts
        elif isinstance(part, Mapping):
            pending += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            pending += part


def _read_by(findings: Findings, node: Node) -> tuple[str, ...] | None:
    """The context keys that the handler of a node reads; None if that is not known."""
    uses = node.uses
    if uses in WORKER:
        worker = node.params.get(WORKER[uses])
        if not isinstance(worker, str):
            return ()
        uses = worker
    if uses in BUILTIN_USES:
        return ()
    if uses == AGENT and uses not in (findings.handlers or {}):
        return ()
    spec = (findings.handlers or {}).get(uses)
    return None if spec is None else spec.reads
