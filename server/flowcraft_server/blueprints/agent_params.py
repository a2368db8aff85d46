"""What nodes that use `agent` say: their params, as the linter, the editor's schema and the agent itself read them. Pure."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flowcraft_sdk.node import HandlerSpec
from flowcraft_sdk.protocol.durations import parse_duration
from flowcraft_sdk.protocol.memory_scripts import LONGEST_KEEP, MOST_BYTES, MOST_MESSAGES

AGENT = "agent"
MOST_TOOLS = 128
LONGEST_INSTRUCTIONS = 200_000
TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"
ToolName = Annotated[str, Field(pattern=TOOL_NAME)]
"""A name as providers take it."""


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolEntry(_Params):
    """A tool of an agent: a handler of the deployment, or a blueprint, which hands the work over to another agent.

    Attributes:
        handler: Name of the handler that is called.
        blueprint: Id of the blueprint that is run instead, with the arguments as its start context.
        name: What the model calls it; by default the name of the handler or the blueprint.
        description: What it is for, for the model; by default what the handler declares.
        arguments: JSON Schema of what it takes, an object; by default what the handler declares.
        params: The `params` of the handler, which the model does not see.
        config: As of a node: `maxRetries`, `retryDelay`, `timeout`, `queue`, `limit`.
    """

    handler: str | None = None
    blueprint: str | None = None
    name: ToolName | None = None
    description: str | None = None
    arguments: dict[str, Any] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.handler is None) == (self.blueprint is None):
            raise ValueError("a tool names a `handler` or a `blueprint`, one of the two")
        if self.blueprint is not None and (self.arguments is None or self.description is None):
            raise ValueError("a tool that is a blueprint needs `arguments`, a JSON Schema, and a `description`")
        return self

    @property
    def tool_name(self) -> str:
        """What the model calls it."""
        return self.name or self.handler or str(self.blueprint)


HOLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_NAME_IN_HOLE = re.compile(r"[^\s.{}]+(\.[^\s.{}]+)*")
MEMORY_NAME = r"^[A-Za-z0-9_.-]{1,100}$"


class MemoryParams(_Params):
    """What an agent keeps of its conversation, for its next run with the same key.

    Attributes:
        key: Whose conversation it is. `{{ userId }}` stands for a value of the agent's input, or of the run's context.
        name: In front of the key; agents that give the same name share the conversation. By default each has its own.
        max_messages: How many messages are kept at most; the oldest inputs make room, with what was made of them.
        max_bytes: Bytes of them, as JSON, at most.
        keep_for: How long it is kept after the last turn, as text such as `90d`.
    """

    key: Annotated[str, Field(min_length=1, max_length=1_000)]
    name: Annotated[str, Field(pattern=MEMORY_NAME)] | None = None
    max_messages: int = Field(default=100, ge=2, le=MOST_MESSAGES, alias="maxMessages")
    max_bytes: int = Field(default=256 * 1024, ge=1024, le=MOST_BYTES, alias="maxBytes")
    keep_for: str = Field(default="30d", alias="keepFor")

    @field_validator("key")
    @classmethod
    def _is_template(cls, key: str) -> str:
        literals = HOLE.split(key)
        for text in literals[::2]:
            if "{{" in text or "}}" in text:
                raise ValueError("expected a text with holes such as {{ userId }}")
        for name in literals[1::2]:
            if not _NAME_IN_HOLE.fullmatch(name):
                raise ValueError(f"'{{{{ {name} }}}}' names no value: write a name such as userId, or user.id")
        for between in literals[2:-1:2]:
            if not any(mark.isascii() and not mark.isalnum() for mark in between):
                raise ValueError("two holes need a mark between them, such as {{ team }}/{{ user }}")
        return key

    @field_validator("keep_for", mode="before")
    @classmethod
    def _is_span(cls, written: Any) -> Any:
        if isinstance(written, str) and not 1 <= parse_duration(written) <= LONGEST_KEEP:
            raise ValueError("a memory is kept for 1s to 10 years")
        if isinstance(written, int | float) and not isinstance(written, bool):
            raise ValueError(f"expected a duration with a unit, such as {written}d")
        return written


class AgentParams(_Params):
    """Params of a node that uses `agent`.

    Attributes:
        model: A provider of `llm.providers`, or `provider:model` as pydantic-ai writes it; of a list the first one that
            answers. By default `llm.default`.
        instructions: What the model is to do, as plain text: nothing in it is filled in.
        tools: What it may call.
        mcp: MCP servers of `flowcraft.yaml` whose tools it may call, too.
        approve: Tools whose calls wait until a person agrees.
        approval_timeout: How long such a call waits, as text such as `2h`; it is refused then. By default it waits for good.
        output: JSON Schema of the output, an object; without one the output is text.
        max_steps: How often the model is asked at most.
        max_repairs: How often it may mend arguments or an output that do not fit, one after the other.
        temperature: As the provider takes it.
        max_tokens: The longest reply, in tokens.
        stream: Whether clients that follow the node get the text of the model as it comes.
        memory: The key of a conversation that is kept between runs, or what is kept of it.
    """

    model: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=10)] | None = None
    instructions: Annotated[str, Field(max_length=LONGEST_INSTRUCTIONS)] = ""
    tools: Annotated[tuple[str | ToolEntry, ...], Field(max_length=MOST_TOOLS)] = ()
    mcp: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    approve: Annotated[tuple[str, ...], Field(max_length=MOST_TOOLS)] = ()
    approval_timeout: str | None = Field(default=None, alias="approvalTimeout")
    output: dict[str, Any] | None = None
    max_steps: int = Field(default=20, ge=1, le=500, alias="maxSteps")
    max_repairs: int = Field(default=2, ge=0, le=20, alias="maxRepairs")
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, alias="maxTokens")
    stream: bool = False
    memory: Annotated[str, Field(min_length=1, max_length=1_000)] | MemoryParams | None = None

    @field_validator("approval_timeout", mode="before")
    @classmethod
    def _is_duration(cls, written: Any) -> Any:
        if isinstance(written, int | float) and not isinstance(written, bool):
            raise ValueError(f"expected a duration with a unit, such as {written}s or {written}m")
        if isinstance(written, str):
            parse_duration(written)
        return written

    @field_validator("memory")
    @classmethod
    def _is_key(cls, written: str | MemoryParams | None) -> MemoryParams | None:
        return MemoryParams(key=written) if isinstance(written, str) else written

    @property
    def models(self) -> tuple[str | None, ...]:
        """The models in the order in which they are tried; None for the deployment's own."""
        return self.model if isinstance(self.model, tuple) else (self.model,)

    @property
    def tool_entries(self) -> tuple[ToolEntry, ...]:
        """The tools, those that are just named written out."""
        return tuple(ToolEntry(handler=tool) if isinstance(tool, str) else tool for tool in self.tools)


PROVIDED: Mapping[str, HandlerSpec] = {
    AGENT: HandlerSpec(name=AGENT, actions=(), params=AgentParams, writes=(), parks=True)
}
"""What the handlers of the server itself declare, by name; a deployment's own handler of such a name counts before it."""
