"""The tools of one MCP server: what it sends is bounded, and what it does wrong ends in an error that names it."""

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NoReturn

import httpx2
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from loguru import logger
from mcp_types import CONNECTION_CLOSED, Tool
from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import BinaryContent
from pydantic_ai.toolsets import ToolsetTool

from flowcraft_sdk.protocol.bounds import shown
from flowcraft_server.config.mcp_section import McpServerSection
from flowcraft_server.llm.bounded_http import CountedBody
from flowcraft_server.llm.openai_failures import quoted

MOST_ANSWER_BYTES = 16 * 1024 * 1024
"""Bytes of one message of a server that is reached by HTTP, as it is after decompression."""

MOST_TOOLS = 500
"""Tools of a server that an agent is offered: each is sent to the model with each request."""

LONGEST_TOOL = 64 * 1024
"""Characters of what describes a tool: its description and its schema."""

LONGEST_TOOL_NAME = 128
MOST_PAGES = 250
"""Of a list of tools."""

METHOD_WITHIN = 200
"""Bytes of a request in which its method stands."""

MOST_LIST_BYTES = 2 * 1024 * 1024
"""Bytes of any answer but that to the call of a tool."""


class McpServerError(Exception):
    """An MCP server cannot be reached, or says what cannot be used. A further attempt asks it again."""


class _AnswerTooLarge(httpx2.StreamError):
    """An answer has too many bytes; the client of the protocol takes it for one that cannot be read."""


class BoundedToolset(MCPToolset[Any]):
    """The tools of a server that agents may call.

    Args:
        name: of the server.
        section: what the configuration says of it.
        max_repairs: how often the model may mend arguments that do not fit.
    """

    def __init__(self, name: str, section: McpServerSection, max_repairs: int) -> None:
        self._place = f"mcp.{name}"
        self._section = section
        super().__init__(
            _transport(section),
            id=name,
            max_retries=max_repairs,
            tool_error_behavior="failed",
            init_timeout=section.connect_timeout,
            read_timeout=section.timeout,
        )

    async def __aenter__(self) -> "BoundedToolset":
        """Connect.

        Raises:
            McpServerError: that cannot be done.
        """
        try:
            await super().__aenter__()
        except Exception as error:
            self._fail("cannot be reached", error)
        return self

    async def __aexit__(self, *args: Any) -> bool | None:
        """Disconnect. That the connection has broken changes nothing any more: what was asked for is there, or has failed."""
        try:
            return await super().__aexit__(*args)
        except Exception as error:
            logger.debug("{}: the connection was not closed: {}", self._place, error)
            return None

    async def list_tools(self) -> list[Tool]:
        """The tools that agents may call.

        Raises:
            McpServerError: the server does not name them in time, or they are none that a model can be offered.
        """
        if self._cached_tools is not None:
            return self._cached_tools
        try:
            async with asyncio.timeout(self._section.timeout), self._connected():
                self._cached_tools = await self._listed()
                return self._cached_tools
        except TimeoutError as error:
            self._fail("does not name its tools in time (`timeout`)", error)
        except Exception as error:
            self._fail("does not name its tools", error)

    async def _listed(self) -> list[Tool]:
        """The tools page by page, so that those of a server without end are not all kept."""
        offered, names, cursor = list[Tool](), set[str](), None
        for _ in range(MOST_PAGES):
            page = await self.client.list_tools_mcp(cursor=cursor)
            for tool in page.tools:
                if any(fnmatchcase(tool.name, pattern) for pattern in self._section.tools):
                    self._check(tool, names)
                    offered.append(tool)
            if len(offered) > MOST_TOOLS:
                raise McpServerError(
                    f"{self._place}: it offers more than {MOST_TOOLS:,} tools: name those that are needed in `tools`"
                )
            if not page.next_cursor or page.next_cursor == cursor:
                return offered
            cursor = page.next_cursor
        raise McpServerError(f"{self._place}: its list of tools has no end, {MOST_PAGES} pages were read")

    def _check(self, tool: Tool, names: set[str]) -> None:
        name = tool.name
        if not 0 < len(name) <= LONGEST_TOOL_NAME or not name.isascii() or not name.isprintable() or " " in name:
            raise McpServerError(
                f"{self._place}: a tool is called {shown(name)}, expected 1 to {LONGEST_TOOL_NAME} printable ASCII characters "
                "without spaces: name those that are needed in `tools`"
            )
        if name in names:
            raise McpServerError(f"{self._place}: two of its tools are called {shown(name)}")
        names.add(name)
        size = len(tool.model_dump_json(include={"description", "input_schema"}))
        if size > LONGEST_TOOL:
            raise McpServerError(
                f"{self._place}: description and schema of tool {shown(name)} have {size:,} characters, {LONGEST_TOOL:,} are "
                "allowed: name the tools that are needed in `tools`"
            )

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Call a tool.

        Raises:
            McpServerError: the connection broke.
            ToolFailed: the tool has failed, or its result cannot be read.
            ModelRetry: the server has refused the call.
        """
        try:
            return _for_model(await super().call_tool(name, tool_args, ctx, tool))
        except ModelRetry as error:
            reported = getattr(error.__cause__, "error", None)
            if getattr(reported, "code", None) == CONNECTION_CLOSED:
                self._fail(f"tool {shown(name)} was called and has given no result", error)
            raise
        except (ToolFailed, McpServerError):
            raise
        except ValueError as error:  # pydantic's among them
            raise ToolFailed(f"the result of the tool cannot be read: {quoted(str(error))}") from error
        except Exception as error:
            self._fail(f"tool {shown(name)} was called and has given no result", error)

    def _fail(self, what: str, error: Exception) -> NoReturn:
        if isinstance(error, McpServerError):
            raise error
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        reason = quoted(str(cause)) or type(cause).__name__
        raise McpServerError(f"{self._place}: {what}: {reason}") from error


def _for_model(result: Any) -> Any:
    """A result without files of kinds that no model takes: it would be refused with each request that has them."""
    if isinstance(result, list):
        return [_for_model(each) for each in result]
    if isinstance(result, BinaryContent) and not (
        result.is_image or result.is_audio or result.is_video or result.is_document
    ):
        return f"a file of {len(result.data):,} bytes and type {shown(result.media_type)}, which is not shown"
    return result


def _transport(section: McpServerSection) -> Any:
    if section.url is None:
        env = {key: value.get_secret_value() for key, value in section.env.items()}
        return StdioTransport(section.command[0], [*section.command[1:]], env=env, keep_alive=False)
    headers = {key: value.get_secret_value() for key, value in section.headers.items()}
    # It follows no redirection to another host: headers with secrets go to the configured one alone.
    return StreamableHttpTransport(
        section.url, headers, httpx_client_factory=_client_of(section), max_sse_event_size=MOST_ANSWER_BYTES
    )


def _client_of(section: McpServerSection) -> Callable[..., httpx2.AsyncClient]:
    def client(headers: dict[str, str] | None = None, auth: Any = None, **_: Any) -> httpx2.AsyncClient:
        timeout = httpx2.Timeout(
            section.connect_timeout, read=section.timeout + section.connect_timeout
        )  # behind `timeout` of the call
        return _BoundedClient(headers=headers, auth=auth, timeout=timeout)

    return client


class _BoundedClient(httpx2.AsyncClient):
    """Reads no more of an answer than one message may have; of a stream of messages each is bounded by what reads it."""

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request; what is left of its answer is counted while it is read."""
        response = await super().send(request, **options)
        kind = response.headers.get("content-type", "").lower()
        is_call = b'"tools/call"' in request.content[:METHOD_WITHIN]
        is_stream = response.is_success and kind.startswith("text/event-stream")
        if not options.get("stream") or (is_stream and (is_call or request.method == "GET")):
            return response
        return CountedBody(
            response, partial(_check_size, MOST_ANSWER_BYTES if is_call else MOST_LIST_BYTES)
        ).as_response(request)


def _check_size(most: int, size: int) -> None:
    if size > most:
        raise _AnswerTooLarge(f"the answer has more than {most:,} bytes")
