"""Finds what is wrong with a blueprint before it runs.

Each family of mistakes has a module of its own; this one calls them. An error is something that would fail a run or was
surely not meant; a warning is something that runs, though perhaps not as it was meant.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from flowcraft_sdk._config.collection import without_collection
from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import SourcePositions
from flowcraft_server.blueprints.linting.actions import check_actions
from flowcraft_server.blueprints.linting.agents import check_agent_names, check_agents
from flowcraft_server.blueprints.linting.builtin_nodes import check_builtins
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.closing import check_closing
from flowcraft_server.blueprints.linting.conditions import check_expressions
from flowcraft_server.blueprints.linting.cycles import check_cycles
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.handlers import (
    check_error_names,
    check_handlers,
    check_limits,
    check_queues,
    check_retries,
)
from flowcraft_server.blueprints.linting.inputs import check_inputs
from flowcraft_server.blueprints.linting.joins import check_joins
from flowcraft_server.blueprints.linting.order import check_order
from flowcraft_server.blueprints.linting.references import check_names, check_references
from flowcraft_server.blueprints.linting.sizes import check_sizes
from flowcraft_server.blueprints.linting.sources import check_sources
from flowcraft_server.blueprints.linting.subflows import check_subflows
from flowcraft_server.blueprints.linting.test_cases import check_tests
from flowcraft_server.blueprints.linting.unread_inputs import check_unread_inputs
from flowcraft_server.blueprints.linting.value_paths import check_value_paths
from flowcraft_server.blueprints.linting.variables import check_variables
from flowcraft_server.blueprints.model import Blueprint

if TYPE_CHECKING:
    from flowcraft_sdk.node import HandlerSpec

_OF_NODES = (
    check_handlers,
    check_agents,
    check_error_names,
    check_builtins,
    check_subflows,
    check_expressions,
    check_sources,
    check_value_paths,
    check_variables,
)
_OF_THE_WHOLE = (
    check_references,
    check_closing,
    check_actions,
    check_inputs,
    check_unread_inputs,
    check_order,
    check_cycles,
    check_joins,
    check_tests,
)


@without_collection()
def lint(
    blueprint: Blueprint,
    *,
    handlers: "Mapping[str, HandlerSpec] | None",
    blueprints: Mapping[str, Blueprint] | Catalog,
    handler_params: Mapping[str, Mapping[str, Any]] | None = None,
    handler_places: SourcePositions | None = None,
    max_attempts: int | None = None,
    undecorated: Mapping[str, str] | None = None,
    limits: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    providers: Collection[str] | None = None,
    mcp_servers: Collection[str] | None = None,
) -> list[Diagnostic]:
    """All that is wrong with a blueprint, in the order of its lines.

    Args:
        blueprint: one that is not complete is checked node by node, and for names of nodes that are not there; what its
            parts are to each other is left out.
        handlers: what handlers declare, by the name that nodes `use`; None when they are not known, which leaves out
            what depends on them.
        blueprints: the blueprints that subflows may call, by id. Where many are checked, a catalog of all of them: what one
            check has found out of the others is not looked for again.
        handler_params: params that the deployment gives to handlers, by name; a node's own count before them.
        handler_places: where those params stand in `flowcraft.yaml`; None if they stand in no file.
        undecorated: functions of handler modules that have no `@handler`, by name; what to call them in messages.
        max_attempts: attempts of nodes that set no `maxRetries`; None if that is not known.
        limits: names of the deployment's limits; None if they are not known.
        queues: those that the deployment's workers serve; None if they are not known.
        providers: names of its `llm.providers`; None if they are not known.
        mcp_servers: names in its section `mcp`; None if they are not known.
    """
    findings = Findings(blueprint, handlers, blueprints, handler_params or {}, handler_places)
    findings.undecorated = undecorated or {}
    if blueprint.complete:
        check_sizes(findings)
    too_large = bool(findings.diagnostics)  # what goes through all ways would take its time with it
    of_the_whole = _OF_THE_WHOLE if blueprint.complete else (check_names,) if blueprint.nodes_known else ()
    if max_attempts == 1:
        check_retries(findings)
    if limits is not None:
        check_limits(findings, limits)
    if queues is not None:
        check_queues(findings, queues)
    check_agent_names(findings, providers, mcp_servers)
    for check in _OF_NODES if too_large else (*_OF_NODES, *of_the_whole):
        check(findings)
    findings.settle()
    return sorted(dict.fromkeys(findings.diagnostics), key=_order)


def _order(diagnostic: Diagnostic) -> tuple[int, int]:
    return (diagnostic.position.line, diagnostic.position.column) if diagnostic.position is not None else (0, 0)
