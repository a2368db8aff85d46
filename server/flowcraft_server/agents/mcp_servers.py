"""The MCP servers of an agent: their tools, filtered and with a prefix."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.config.mcp_section import McpServerSection


class McpSettingsError(NonRetryableError):
    """An agent names an MCP server that is not in `flowcraft.yaml`, or what it takes to reach one is not installed."""


def toolsets_of(
    names: Sequence[str], servers: Mapping[str, McpServerSection], approve: Sequence[str], max_repairs: int
) -> list[AbstractToolset[Any]]:
    """The tools of these servers. Nothing is connected yet.

    Args:
        names: of the servers.
        servers: those of the deployment, by name.
        approve: names of tools, with their prefix, whose calls wait until a person agrees.
        max_repairs: how often the model may mend arguments that do not fit.

    Raises:
        McpSettingsError: there is no such server.
    """
    found = []
    for name in names:
        section = servers.get(name)
        if section is None:
            known = ", ".join(servers) or "none"
            raise McpSettingsError(f"no MCP server '{name}' in `mcp` of flowcraft.yaml; known: {known}")
        found.append(_toolset(name, section, frozenset(approve), max_repairs))
    return found


def _toolset(name: str, section: McpServerSection, approve: frozenset[str], max_repairs: int) -> AbstractToolset[Any]:
    try:
        from flowcraft_server.agents.mcp_toolset import BoundedToolset
    except ImportError:
        raise McpSettingsError("MCP servers need the extra: pip install 'flowcraft-server[agents]'") from None

    def is_offered(_: RunContext[Any], tool: ToolDefinition) -> bool:
        return any(fnmatchcase(tool.name, pattern) for pattern in section.tools)

    def needs_approval(_: RunContext[Any], tool: ToolDefinition, _arguments: dict[str, Any]) -> bool:
        return tool.name in approve

    server = BoundedToolset(name, section, max_repairs)
    return server.filtered(is_offered).prefixed(section.prefix or name).approval_required(needs_approval)
