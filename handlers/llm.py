"""The handlers of the four agents: ask a language model, let it decide, and put texts together.

Every node has `params.promptTemplate` and, as a rule, `params.inputs`: for each name in the template the context key
(or node id) that its value comes from, or a list of which the first with a value is taken. A node without
`params.inputs` fills its template from the node's own `inputs`: a mapping by its names, any value as `{{ input }}`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowcraft_sdk import AsyncNodeContext, NodeResult, NonRetryableError, handler

from .readings import read_action, read_field, read_yes_no
from .templates import pick, render, wanted_keys

_LONGEST_QUOTE = 200
P = TypeVar("P", bound=BaseModel)


class UnclearReplyError(Exception):
    """The model's reply to a yes/no question is neither. The node fails, and asks again if it has attempts left."""


class TemplateParams(BaseModel):
    """Params of a node that fills in a template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_template: str = Field(alias="promptTemplate")
    inputs: dict[str, str | list[str]] | None = None


class PromptParams(TemplateParams):
    """Params of a node that sends its filled-in template to the model."""

    system: str | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, alias="maxTokens")


class OutputParams(TemplateParams):
    """Params of an `output` node."""

    output_key: str = Field(default="final_output", min_length=1, alias="outputKey")


@handler("llm-process", params=PromptParams, parks=True)
async def process(ctx: AsyncNodeContext) -> str:
    """Send the prompt to the model; the reply is the node's output."""
    return await _ask(ctx)


@handler("llm-condition", params=PromptParams, actions=("true", "false"), parks=True)
async def condition(ctx: AsyncNodeContext) -> NodeResult:
    """Ask the model a yes/no question and follow the edge `true` or `false`; the reply is the output.

    A model that can be held to a schema answers with true or false; of others the text is read.

    Raises:
        UnclearReplyError: the reply is neither yes nor no. Guessing would take a branch that was not decided on.
    """
    reply = (await _ask(ctx, VERDICT)).strip()
    answered = read_field(reply, "verdict")
    verdict = answered if isinstance(answered, bool) else read_yes_no(reply)
    if verdict is None:
        raise UnclearReplyError(f"expected a reply that means true or false, got {_quote(reply)}")
    action = "true" if verdict else "false"
    return NodeResult(output=action if isinstance(answered, bool) else reply, action=action)


@handler("llm-router", params=PromptParams, parks=True)
async def route(ctx: AsyncNodeContext) -> NodeResult:
    """Let the model choose the edge to follow. A reply that no edge has as its action fails the node."""
    actions = list(ctx.actions)
    schema = _object(action={"type": "string", "enum": actions}) if actions else None
    reply = (await _ask(ctx, schema)).strip()
    chosen = read_field(reply, "action")
    if isinstance(chosen, str):
        return NodeResult(output=chosen, action=chosen)
    return NodeResult(output=reply, action=read_action(reply))


@handler("output", params=OutputParams)
async def output(ctx: AsyncNodeContext) -> str:
    """Fill in the template, without a model, and write the text to the context under `outputKey`."""
    params = _checked(OutputParams, ctx.params)
    text = await _filled_in(ctx, params)
    await ctx.context.set(params.output_key, text)
    return text


def _object(**properties: Any) -> dict[str, Any]:
    """The JSON Schema of an object with these keys and no others."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


VERDICT = _object(verdict={"type": "boolean"})
"""What the reply to a yes/no question is, where the model can be held to a schema."""


async def _ask(ctx: AsyncNodeContext, schema: Mapping[str, Any] | None = None) -> str:
    params = _checked(PromptParams, ctx.params)
    prompt = await _filled_in(ctx, params)
    return await ctx.llm.complete(
        prompt,
        system=params.system,
        model=params.model,
        temperature=params.temperature,
        max_tokens=params.max_tokens,
        **({} if schema is None else {"schema": schema}),
    )


async def _filled_in(ctx: AsyncNodeContext, params: TemplateParams) -> str:
    if params.inputs is None:
        named = dict(ctx.input) if isinstance(ctx.input, Mapping) else {}
        return render(params.prompt_template, named if ctx.input is None else {"input": ctx.input, **named})
    found = await ctx.context.get_many(wanted_keys(params.inputs))
    return render(params.prompt_template, pick(params.inputs, found))


def _checked(model: type[P], params: Mapping[str, Any]) -> P:
    try:
        return model.model_validate(dict(params))
    except ValidationError as error:
        faults = "; ".join(f"params.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise NonRetryableError(faults) from None


def _quote(text: str) -> str:
    shown = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."
    return repr(shown)
