"""The MCP servers of an agent: their tools, filtered and with a prefix."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.config.mcp_section import McpServerSection

MOST_EVENT_BYTES = 16 * 1024 * 1024
"""Bytes of one message of a server that is reached by HTTP."""


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
        from pydantic_ai.mcp import MCPToolset
    except ImportError:
        raise McpSettingsError("MCP servers need the extra: pip install 'flowcraft-server[agents]'") from None

    def is_offered(_: RunContext[Any], tool: ToolDefinition) -> bool:
        return any(fnmatchcase(tool.name, pattern) for pattern in section.tools)

    def needs_approval(_: RunContext[Any], tool: ToolDefinition, _arguments: dict[str, Any]) -> bool:
        return tool.name in approve

    server: AbstractToolset[Any] = MCPToolset(
        _transport(section),
        id=name,
        max_retries=max_repairs,
        tool_error_behavior="failed",
        init_timeout=section.connect_timeout,
        read_timeout=section.timeout,
    )
    return server.filtered(is_offered).prefixed(section.prefix or name).approval_required(needs_approval)


def _transport(section: McpServerSection) -> Any:
    from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

    if section.url is None:
        env = {key: value.get_secret_value() for key, value in section.env.items()}
        return StdioTransport(section.command[0], [*section.command[1:]], env=env, keep_alive=False)
    headers = {key: value.get_secret_value() for key, value in section.headers.items()}
    # It follows no redirection to another host: headers with secrets go to the configured one alone.
    return StreamableHttpTransport(section.url, headers, max_sse_event_size=MOST_EVENT_BYTES)
