"""Expressions of edges and loops: whether they can be read, and whether they read something that exists."""

from collections.abc import Collection, Set
from itertools import chain

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.expressions import Expression, ExpressionError, compile_expression
from flowcraft_sdk.protocol.sources import compiled, is_expression
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.writes import all_known, written_keys
from flowcraft_server.blueprints.quoting import quoted
from flowcraft_server.blueprints.suggestions import did_you_mean

_RESULT = ("output", "action")
_SCOPE = ("result", "input", "context")
_SIMILAR = 0.85


def check_expressions(findings: Findings) -> None:
    """Check every condition and transform."""
    keys = written_keys(findings)
    certain = is_certain(findings)
    for index, edge in enumerate(findings.blueprint.edges):
        if edge.condition is None and edge.transform is None:
            continue
        for part, source in (("condition", edge.condition), ("transform", edge.transform)):
            if source is not None:
                expression = _plain_at(findings, ("edges", index, part), source)
                _check_result(findings, ("edges", index, part), expression)
                check_keys(findings, ("edges", index, part), expression, keys, certain)
    for node in findings.set_up:
        condition = node.params.get("condition") if node.uses == "loop-controller" else None
        if not isinstance(condition, str) or not condition:
            continue
        path = node_path(node, "params", "condition")
        expression = _plain_at(findings, path, condition)
        check_keys(findings, path, expression, keys, certain)
        if expression is not None and "result" in expression.names and "result" not in findings.graph.nodes:
            findings.warning(path, "a loop's condition has no 'result'; read a node's output by the node's id")


def is_certain(findings: Findings) -> bool:
    """Whether all that a run may hold is known."""
    declared = findings.blueprint.inputs_contract is not None or findings.blueprint.context_keys is not None
    return declared and findings.handlers is not None and all_known(findings, findings.blueprint)


def _plain_at(findings: Findings, path: Path, source: str) -> Expression | None:
    """The expression where nothing else may stand. One that is written as a source is refused: the engine cannot read it."""
    if is_expression(source):
        findings.error(
            path,
            f"this is an expression as it is: write it without the '=' before it, {quoted(source.strip()[1:].strip())}",
        )
        return None
    return compiled_at(findings, path, source)


def compiled_at(findings: Findings, path: Path, source: str) -> Expression | None:
    """The expression that stands at a path; None if it cannot be read, which is noted."""
    try:
        return compiled(source) if is_expression(source) else compile_expression(source)
    except ExpressionError as error:
        error = ExpressionError(error.message, source, error.offset)  # as it is written, with its `=`
        findings.error(path, error.message, excerpt=_excerpt(findings, path, error))
    return None


def _excerpt(findings: Findings, path: Path, error: ExpressionError) -> str:
    """The line of the expression with a caret below the spot, beside the line number in the file."""
    lines = [line[4:] for line in str(error).split("\n")[1:]]
    position = findings.position(path)
    number = str(position.line) if position is not None and "\n" not in error.source else ""
    return "\n".join(f"{margin:>7} | {line}" for margin, line in zip((number, ""), lines, strict=False))


def _check_result(findings: Findings, path: Path, expression: Expression | None) -> None:
    for read in sorted(expression.reads) if expression is not None else ():
        if read[0] == "result" and len(read) > 1 and read[1] not in _RESULT:
            message = f"'result' has output and action, no '{read[1]}'{did_you_mean(read[1], _RESULT)}"
            findings.warning(path, message)


def check_keys(
    findings: Findings,
    path: Path,
    expression: Expression | None,
    keys: Set[str],
    certain: bool,
    own: Collection[str] = _SCOPE,
) -> None:
    """Check the names of context keys and nodes that an expression reads.

    A handler may write any key that it does not declare, and an expression may ask whether a key exists. So only names
    that look misspelt are reported, unless it is certain that nothing writes a key.

    Args:
        own: names that mean something of their own there.
    """
    for read in sorted(expression.reads) if expression is not None else ():
        name = read[1] if read[0] == "context" and len(read) > 1 else read[0]
        known_in_scope = (*own, "context") if name == read[0] else ()
        if name in known_in_scope or name in keys or name in findings.graph.nodes or name.startswith("_"):
            continue
        if name in _RESULT and name == read[0] and "result" in own:
            findings.warning(path, f"nothing writes '{name}'; did you mean 'result.{name}'?")
            continue
        similar = findings.nearest(name, chain(findings.graph.nodes, keys, known_in_scope), _SIMILAR)
        if similar is not None and similar != name:
            findings.warning(path, f"nothing writes '{name}'; did you mean '{similar}'?")
        elif certain:
            meant = findings.meant(name, chain(findings.graph.nodes, keys, known_in_scope))
            findings.warning(
                path, f"nothing writes '{name}': it is no node and not among the blueprint's inputs{meant}"
            )
