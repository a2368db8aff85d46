"""One execution of an agent: the model is asked, its tool calls become nodes, until it has an output.

The handler is called again each time that the nodes of its tool calls have ended. It begins from its beginning, and gets the
answers of models from their records: what was answered is not asked again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent, ModelRetry, RunContext, StructuredDict
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.output import OutputSpec
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import RunUsage, UsageLimits

from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.agents.agent_input import prompt_of
from flowcraft_server.agents.conversation import Conversation, filled_key
from flowcraft_server.agents.durable_agent import DurableAgent
from flowcraft_server.agents.mcp_servers import toolsets_of
from flowcraft_server.agents.models import chosen_model
from flowcraft_server.agents.schemas import ValueSchema
from flowcraft_server.agents.tool_nodes import ToolNodes
from flowcraft_server.agents.tools import AgentToolError, NodeToolset, tools_of
from flowcraft_server.blueprints.agent_params import AGENT, AgentParams, MemoryParams
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.engine.outcome import Suspended

if TYPE_CHECKING:
    from flowcraft_server.agents.handler import AgentServices


class AgentStepsExceeded(NonRetryableError):
    """The model was asked `params.maxSteps` times and has no output."""


class AgentOutputError(NonRetryableError):
    """The model does not come to arguments or an output that fit, or gives nothing that can be used."""


async def run_agent(ctx: AwaitedNodeContext, params: AgentParams, services: "AgentServices") -> Any:
    """Run an agent; returns its output, or `Suspended` with the nodes of its tool calls.

    Raises:
        AgentInputError: it has no input.
        AgentToolError: one of its tools cannot be used.
        AgentStepsExceeded: the model was asked too often.
        AgentOutputError: the model does not come to an output that fits.
        AgentMemoryError: the key of its memory has no value.
    """
    prompt: str | None = prompt_of(ctx.input)
    tools = tools_of(params.tool_entries, services.handlers)
    if (tools or params.approve) and ctx.item is not None:
        raise AgentToolError(
            f"agent '{ctx.node_id}' is the item of a batch, whose items add no nodes: let `map` call a blueprint with the agent"
        )
    nodes = ToolNodes(ctx, tools, params.approve, params.approval_timeout)
    toolsets = [
        NodeToolset(tools, params.max_repairs),
        *toolsets_of(params.mcp, services.mcp, params.approve, params.max_repairs),
    ]
    agent = await _agent(ctx, params, services, toolsets)
    usage, limits = RunUsage(), UsageLimits(request_limit=params.max_steps)
    conversation = None
    if isinstance(params.memory, MemoryParams):
        conversation = await Conversation.recalled(ctx, params.memory, await filled_key(ctx, params.memory.key))
    history, results = None if conversation is None else conversation.messages, None
    while True:
        try:
            done = await agent.run(
                ctx, prompt, message_history=history, deferred_tool_results=results, usage=usage, usage_limits=limits
            )
        except UsageLimitExceeded:
            raise AgentStepsExceeded(
                f"agent '{ctx.node_id}': the model was asked {params.max_steps} times and has no output (params.maxSteps)"
            ) from None
        except UnexpectedModelBehavior as error:
            raise AgentOutputError(f"agent '{ctx.node_id}': {error.message}") from error
        if not isinstance(done.output, DeferredToolRequests):
            output = dict(done.output) if isinstance(done.output, dict) else done.output
            if conversation is not None:
                await conversation.remember(done.all_messages(), output)
            return output
        answers = await nodes.answers(done.output.calls, done.output.approvals)
        if answers.missing:
            return Suspended(dynamic_nodes=tuple(answers.missing))
        results = DeferredToolResults(calls=answers.results, approvals=answers.approvals)
        prompt, history = None, done.all_messages()


async def _agent(
    ctx: AwaitedNodeContext, params: AgentParams, services: "AgentServices", toolsets: Sequence[AbstractToolset[Any]]
) -> DurableAgent[Any, Any]:
    output: Any = str if params.output is None else StructuredDict(params.output, name="output")
    agent = Agent[Any, Any](
        await chosen_model(params.models, services.models, ctx.llm, streams=params.stream),
        name=AGENT,
        instructions=params.instructions or None,
        output_type=_outputs(output),
        toolsets=toolsets,
        retries=params.max_repairs,
        model_settings=_settings(params),
    )
    if params.output is not None:
        schema = ValueSchema(params.output, "params.output")

        @agent.output_validator
        def fits(run: RunContext[Any], value: Any) -> Any:
            faults = None if isinstance(value, DeferredToolRequests) else schema.faults(value)
            if faults:
                raise ModelRetry(f"the output does not fit its schema: {faults}")
            return value

    return DurableAgent.uncounted(agent)


def _outputs(output: Any) -> OutputSpec[Any]:
    return [output, DeferredToolRequests]


def _settings(params: AgentParams) -> ModelSettings:
    settings = ModelSettings()
    if params.temperature is not None:
        settings["temperature"] = params.temperature
    if params.max_tokens is not None:
        settings["max_tokens"] = params.max_tokens
    return settings
