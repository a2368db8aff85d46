"""The tools of an agent: handlers and blueprints of the deployment, each call a node of the run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, ToolsetTool

from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk.errors import SerializationError
from flowcraft_sdk.node import DynamicNode, HandlerSpec, NonRetryableError
from flowcraft_sdk.protocol import wire
from flowcraft_server.agents.schemas import MOST_FAULTS, ValueSchema
from flowcraft_server.blueprints.agent_params import ToolEntry
from flowcraft_server.config.handler import Handler

LONGEST_FAULT = 500


class AgentToolError(NonRetryableError):
    """A tool of an agent cannot be used; the message has what to write."""


class Tool:
    """A tool that an agent may call.

    Args:
        entry: what the node has of it.
        handler: the handler that it calls; None for a blueprint.

    Raises:
        AgentToolError: what it takes is declared nowhere.
    """

    def __init__(self, entry: ToolEntry, handler: Handler | None) -> None:
        spec = handler.spec if handler is not None else None
        self.entry = entry
        self.name = entry.tool_name
        self._model: type[BaseModel] | None = spec.arguments if spec is not None and entry.arguments is None else None
        schema = entry.arguments if self._model is None else self._model.model_json_schema()
        if schema is None:
            raise AgentToolError(
                f"tool '{self.name}': the handler does not say what it takes: declare it with "
                "@handler(arguments=MODEL), or write `arguments`, a JSON Schema"
            )
        self.schema: dict[str, Any] = {"type": "object", **schema}
        self._schema = ValueSchema(self.schema, f"what tool '{self.name}' takes")
        self.description = entry.description or described(spec, handler)

    @property
    def definition(self) -> ToolDefinition:
        """The tool, as models see it."""
        return ToolDefinition(name=self.name, description=self.description, parameters_json_schema=self.schema)

    def checked(self, arguments: Any) -> dict[str, Any]:
        """The arguments, if they fit.

        Raises:
            ModelRetry: they do not; the message is for the model.
        """
        if not isinstance(arguments, dict):
            raise ModelRetry("the arguments of a tool are an object")
        try:
            wire.dumps(arguments, path="arguments")
        except SerializationError as error:
            raise ModelRetry(f"the arguments cannot be stored: {error}") from None
        faults = self._schema.faults(arguments)
        if not faults and self._model is not None:
            try:
                self._model.model_validate(arguments)
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
                faults = "; ".join(f"{written_path(fault['loc'])}: {fault['msg'][:LONGEST_FAULT]}" for fault in found)
        if faults:
            raise ModelRetry(f"the arguments do not fit: {faults}")
        return arguments

    def node(self, node_id: str, arguments: Mapping[str, Any]) -> DynamicNode:
        """The node of a call. Its arguments are literals: nothing in them is read as a path or an expression."""
        given: Any = {name: {"value": value} for name, value in arguments.items()}
        if self.entry.blueprint is not None:
            params = {"blueprintId": self.entry.blueprint, "inputs": given}
            return DynamicNode(node_id, "subflow", params, config=self.entry.config)
        return DynamicNode(node_id, str(self.entry.handler), self.entry.params, given, self.entry.config)


def described(spec: HandlerSpec | None, handler: Handler | None) -> str | None:
    """What a handler is for: what it declares, or the first paragraph of its docstring."""
    if spec is not None and spec.description is not None:
        return spec.description
    text = getattr(handler.function, "__doc__", None) if handler is not None else None
    return " ".join(text.split("\n\n")[0].split()) or None if isinstance(text, str) else None


def tools_of(entries: Sequence[ToolEntry], handlers: Mapping[str, Handler]) -> dict[str, Tool]:
    """The tools of an agent by name.

    Raises:
        AgentToolError: one of them cannot be used, or two have one name.
    """
    tools: dict[str, Tool] = {}
    for entry in entries:
        if entry.handler is not None and entry.handler not in handlers:
            raise AgentToolError(f"tool '{entry.tool_name}': no worker has a handler '{entry.handler}'")
        if entry.tool_name in tools:
            raise AgentToolError(f"two tools are called '{entry.tool_name}'; give one of them another `name`")
        tools[entry.tool_name] = Tool(entry, handlers.get(entry.handler) if entry.handler is not None else None)
    return tools


class _Arguments:
    """Checks the arguments of a tool where pydantic-ai expects a validator of pydantic's."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def validate_json(self, input: str | bytes, **_: Any) -> dict[str, Any]:
        """Check arguments that came as JSON."""
        try:
            value = json.loads(input)
        except (ValueError, RecursionError) as error:
            raise ModelRetry(f"the arguments are no JSON: {error}") from None
        return self._tool.checked(value)

    def validate_python(self, input: Any, **_: Any) -> dict[str, Any]:
        """Check arguments that came as values."""
        return self._tool.checked(input)


class NodeToolset(ExternalToolset[Any]):
    """Tools whose calls the agent leaves to nodes, once their arguments fit.

    Args:
        tools: by name.
        max_repairs: how often the model may mend arguments that do not fit.
    """

    def __init__(self, tools: Mapping[str, Tool], max_repairs: int) -> None:
        super().__init__([tool.definition for tool in tools.values()], id="nodes")
        self._tools = tools
        self._max_repairs = max_repairs

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """The tools, with what checks their arguments."""
        tools = await super().get_tools(ctx)
        for name, tool in tools.items():
            tool.args_validator = _Arguments(self._tools[name])  # type: ignore[assignment]
            tool.max_retries = self._max_repairs
        return tools
