"""Agents whose tools are not there, or do not say what they take."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.agent_params import AGENT, HOLE, AgentParams, ToolEntry
from flowcraft_server.blueprints.linting.conditions import is_certain
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.sources import known_kinds
from flowcraft_server.blueprints.linting.writes import written_keys
from flowcraft_server.blueprints.model import BUILTIN_USES, Node


def check_agents(findings: Findings) -> None:
    """Check the tools of agents; params that do not fit at all are reported by the check of handlers."""
    if findings.handlers is not None and AGENT in findings.handlers:  # the deployment has one of its own
        return
    for node in findings.graph.nodes.values():
        if (params := _params(node)) is not None:
            _check_tools(findings, node, params)
            _check_object(findings, params.output, node_path(node, "params", "output"))
            _check_memory(findings, node, params)
        elif node.uses in ("map", "batch-scatter"):
            _check_item(findings, node)


def check_agent_names(
    findings: Findings, providers: Collection[str] | None, mcp_servers: Collection[str] | None
) -> None:
    """Check that the models and MCP servers which agents name are those of the deployment."""
    if findings.handlers is not None and AGENT in findings.handlers:
        return
    for node in findings.graph.nodes.values():
        params = _params(node)
        if params is None:
            continue
        for index, name in enumerate(params.models if providers is not None else ()):
            if name is not None and ":" not in name and name not in (providers or ()):
                within = (index,) if isinstance(params.model, tuple) else ()
                meant = findings.meant(name, providers or ())
                findings.error(
                    node_path(node, "params", "model", *within), f"no provider '{name}' in llm.providers{meant}"
                )
        for index, name in enumerate(params.mcp if mcp_servers is not None else ()):
            if name not in (mcp_servers or ()):
                meant = findings.meant(name, mcp_servers or ())
                findings.error(
                    node_path(node, "params", "mcp", index), f"no MCP server '{name}' in `mcp` of flowcraft.yaml{meant}"
                )


def _params(node: Node) -> AgentParams | None:
    """What an agent is given; None if the node is none, or its params do not fit."""
    if node.uses != AGENT:
        return None
    try:
        return AgentParams.model_validate(dict(node.params))
    except ValidationError:
        return None


def _check_tools(findings: Findings, node: Node, params: AgentParams) -> None:
    names: dict[str, int] = {}
    for index, tool in enumerate(params.tool_entries):
        is_short = isinstance(params.tools[index], str)
        path = node_path(node, "params", "tools", index)
        if tool.tool_name in names:
            findings.error(path, f"a second tool is called '{tool.tool_name}'; give one of them another `name`")
        names[tool.tool_name] = index
        if tool.blueprint is not None:
            if findings.called(tool.blueprint) is None:
                meant = findings.meant(tool.blueprint, findings.catalog.ids)
                if meant or not findings.catalog.is_partial:  # a file that cannot be read may have it
                    findings.error((*path, "blueprint"), f"no blueprint '{tool.blueprint}'{meant}")
        else:
            _check_handler(findings, tool, path if is_short else (*path, "handler"))
        _check_object(findings, tool.arguments, (*path, "arguments"))
    for index, name in enumerate(params.approve):
        if name not in names and not params.mcp:  # what servers offer is not known here
            meant = findings.meant(name, names)
            findings.error(node_path(node, "params", "approve", index), f"the agent has no tool '{name}'{meant}")


def _check_memory(findings: Findings, node: Node, params: AgentParams) -> None:
    """A key without a value fails the node; one without a hole is that of every run."""
    if params.memory is None:
        return
    short = isinstance(node.params.get("memory"), str)
    path = node_path(node, "params", "memory", *(() if short else ("key",)))
    key = params.memory if isinstance(params.memory, str) else params.memory.key
    own = set(node.inputs) if isinstance(node.inputs, Mapping) else set()
    known = {*own, *written_keys(findings), *findings.graph.nodes}
    names = HOLE.findall(key)
    if not names and key in known:
        message = f"'{key}' is a fixed key: all runs go on in one conversation; did you mean '{{{{ {key} }}}}'?"
        findings.warning(path, message)
    if not isinstance(node.inputs, Mapping) and not _has_no_parts(findings, node.inputs):
        return  # a name may be one of what the input holds
    for name in names if is_certain(findings) else ():
        base = name.partition(".")[0]
        if base not in known and not base.startswith("_"):
            meant = findings.meant(base, known)
            findings.warning(path, f"nothing writes '{base}': the agent would fail for want of a key{meant}")


def _has_no_parts(findings: Findings, source: object) -> bool:
    """Whether an input is a plain value for certain."""
    return isinstance(source, str) and known_kinds(findings)(source) in ("string", "number", "integer", "boolean")


def _check_handler(findings: Findings, tool: ToolEntry, path: Path) -> None:
    name = str(tool.handler)
    if findings.handlers is None:
        return
    if name in BUILTIN_USES or name not in findings.handlers:
        findings.error(path, f"no handler '{name}' for this tool{findings.meant(name, findings.handlers)}")
        findings.has_unknown_handlers = True
        return
    spec = findings.spec(name)
    if tool.arguments is None and (spec is None or spec.arguments is None):
        findings.error(
            path,
            f"handler '{name}' does not say what it takes as a tool: declare it with @handler(arguments=MODEL), "
            "or write `arguments`, a JSON Schema",
        )


def _check_object(findings: Findings, schema: Mapping[str, Any] | None, path: Path) -> None:
    if schema is not None and schema.get("type", "object") != "object":
        findings.error(
            (*path, "type"), f"expected an object, such as {{type: object, properties: ...}}, got {schema['type']!r}"
        )


def _check_item(findings: Findings, node: Node) -> None:
    name = "uses" if node.uses == "map" else "workerUsesKey"
    inner = node.params.get("params")
    if node.params.get(name) == AGENT and isinstance(inner, Mapping) and inner.get("tools"):
        message = (
            "an item of a batch adds no nodes, as an agent with tools does: let `map` call a blueprint with the agent"
        )
        findings.error(node_path(node, "params", name), message)
