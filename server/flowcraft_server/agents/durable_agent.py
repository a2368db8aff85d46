"""Any agent of pydantic-ai inside a handler: what it asks models, tools and MCP servers for are steps of the node."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_ai import Agent
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    CallableOperationBackend,
    DurabilityEngineSpec,
    DurableOperationBackend,
    DurableOperationId,
    JournalOperationNamer,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.models import Model, infer_model
from pydantic_ai.run import AgentRunResult

from flowcraft_sdk.node import AsyncNodeContext, NonRetryableError
from flowcraft_server.agents.conversation import AgentMemoryError, Conversation, checked_key, escaped
from flowcraft_server.agents.models import StepOfCall, counted, step_of_call
from flowcraft_server.blueprints.agent_params import MemoryParams
from flowcraft_server.engine.contexts import AwaitedNodeContext

Deps = TypeVar("Deps")
Output = TypeVar("Output")

_MODEL_CALLS = (ModelRequestId, ModelCompactMessagesId, ModelCancelSuspendedResponseId)
_TOOL_CALLS = (ToolsetCallToolId, ToolsetGetToolsId, ToolsetGetInstructionsId, ToolsetValidateToolArgumentsId)

_counted: ContextVar[Model | None] = ContextVar("flowcraft_counted_model", default=None)
"""The model of an agent whose requests are counted here; None where that is done further inside."""

_node: ContextVar[AwaitedNodeContext | None] = ContextVar("flowcraft_node_of_agent", default=None)


def _details(payload: Any) -> Mapping[str, Any]:
    """What is kept beside a model's answer, as for calls of `ctx.llm`: the model that gave it, its tokens, why it has ended."""
    if not isinstance(payload, Mapping) or "usage" not in payload:
        return {}
    usage = payload["usage"] or {}
    return {
        "model": payload.get("model_name") or "",
        "input": usage.get("input_tokens", 0),
        "cached": usage.get("cache_read_tokens", 0),
        "output": usage.get("output_tokens", 0),
        "finishReason": payload.get("finish_reason") or "stop",
    }


def _with_distinct_calls(payload: Any) -> Any:
    """A model's answer in which no two calls of tools have one id: results are matched by these, and some models repeat them."""
    parts = payload.get("parts") if isinstance(payload, dict) else None
    calls = [part for part in parts or () if isinstance(part, dict) and part.get("part_kind") == "tool-call"]
    given = {part.get("tool_call_id") for part in calls}
    used: set[Any] = set()
    for part in calls:
        call_id, number = part.get("tool_call_id"), 1
        while call_id in used:
            number += 1
            changed = f"{part.get('tool_call_id')}_{number}"
            call_id = changed if changed not in given else call_id
        part["tool_call_id"] = call_id
        used.add(call_id)
    return payload


class _Steps(CallableOperationBackend[None]):
    """Executes each operation of an agent as a step of the node that it runs in."""

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        node = _node.get()
        assert node is not None
        if isinstance(operation_id, _MODEL_CALLS):
            call = body
            if isinstance(operation_id, ModelRequestId) and (model := _counted.get()) is not None:
                call = partial(counted, model, node.llm, cache_key, body)
            step = node._steps.begin(name, "model")

            about = StepOfCall("")

            async def execute() -> object:
                about.key = step.idempotency_key
                token = step_of_call.set(about)
                try:
                    return _with_distinct_calls(await call())
                finally:
                    step_of_call.reset(token)

            return await step.arun(execute, lambda payload: about.details or _details(payload))
        return await node._steps.arecord(name, "tool" if isinstance(operation_id, _TOOL_CALLS) else "step", body)


class _Durability(BaseDurabilityCapability[Any]):
    """Has an agent's requests, tool calls and discovery run as steps."""

    engine_spec = DurabilityEngineSpec(
        engine_name="Flowcraft",
        durable_unit_noun="step",
        durable_container_noun="node",
        codec=JSON_CODEC,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-in-durable-unit", "dynamic": "enter-never"},
        sequential_tools_in_durable_context=True,  # steps are found again by their order
    )

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self._runs = 0

    @property
    def in_durable_context(self) -> bool:
        return _node.get() is not None

    def get_durable_operation_backend(self) -> DurableOperationBackend[None]:
        config = RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None)
        return _Steps(
            namer=JournalOperationNamer(self.name, default_model_id=self.default_model_id or "default"), config=config
        )


class DurableAgent(Generic[Deps, Output]):
    """An agent of pydantic-ai whose calls are steps of the node that it runs in: a call that was answered is not made again.

    Example:
        ```python
        researcher = DurableAgent(Agent("openai:gpt-4.1-mini", tools=[search]))

        @handler("research")
        async def research(ctx):
            return (await researcher.run(ctx, ctx.input)).output
        ```

    Args:
        agent: The agent. Its tools run in the handler's process, one after the other.
        name: Begins the names of its steps, and must not change while runs are under way; by default the agent's own, or
            `agent`.
    """

    def __init__(self, agent: Agent[Deps, Output], *, name: str | None = None) -> None:
        self.agent = agent
        self.name = name or agent.name or "agent"
        self._counts = True

    @classmethod
    def uncounted(cls, agent: Agent[Deps, Output]) -> "DurableAgent[Deps, Output]":
        """One whose model counts its calls itself, and looks at budgets. For the server's own agents."""
        made = cls(agent)
        made._counts = False
        return made

    async def run(
        self,
        ctx: AsyncNodeContext,
        prompt: Any = None,
        *,
        memory: str | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AgentRunResult[Any]:
        """Run the agent in a coroutine handler.

        Args:
            ctx: The handler's context.
            prompt: What `Agent.run` takes as prompt.
            memory: The key of a conversation that is kept between runs; or, as in `params.memory` of a blueprint, a mapping
                with `key`, `name`, `maxMessages`, `maxBytes` and `keepFor`. Nothing in the key is filled in.
            **options: What else `Agent.run` takes: `deps`, `message_history`, `usage_limits`, ...

        Returns:
            What `Agent.run` returns.

        Raises:
            NonRetryableError: The context is none of a coroutine handler, the memory has no key or params that do not fit, or
                the node has it already.
            StepMismatchError: The agent asks for other calls than an earlier attempt did, as its code has changed.
        """
        if not isinstance(ctx, AwaitedNodeContext):
            raise NonRetryableError("a DurableAgent runs in a coroutine handler: declare the handler with `async def`")
        conversation = None if memory is None else await self._recalled(ctx, memory)
        if conversation is not None:
            options["message_history"] = [*conversation.messages, *(options.get("message_history") or ())]
        capabilities = [*(options.pop("capabilities", None) or ()), _Durability(self.name)]
        token, model = _node.set(ctx), options.get("model") or self.agent.model
        counts = _counted.set(infer_model(model) if self._counts and model is not None else None)
        try:
            result: AgentRunResult[Any] = await self.agent.run(prompt, capabilities=capabilities, **options)
            if conversation is not None:
                await conversation.remember(result.all_messages(), result.output)
            return result
        finally:
            _node.reset(token)
            _counted.reset(counts)

    @staticmethod
    async def _recalled(ctx: AwaitedNodeContext, memory: str | Mapping[str, Any]) -> Conversation:
        given = {"key": memory} if isinstance(memory, str) else dict(memory)
        try:
            key = checked_key(escaped(str(given.get("key") or "")))
            params = MemoryParams.model_validate({**given, "key": "-"})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)
            )
            raise AgentMemoryError(f"memory: {faults}") from None
        return await Conversation.recalled(ctx, params, key)
