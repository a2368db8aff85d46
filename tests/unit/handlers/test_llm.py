import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeResult, NonRetryableError
from handlers import llm


class Context:
    """The run's context, with a count of the round trips."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self.reads = 0

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        self.reads += 1
        return {key: self.values[key] for key in keys if key in self.values}

    async def set(self, key: str, value: Any) -> None:
        self.values[key] = value


class Model:
    """Answers with the same reply and remembers what it was asked."""

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def complete(self, prompt: str, **options: Any) -> str:
        self.calls.append((prompt, options))
        return self.reply


class NodeContext:
    """As much of a node's context as these handlers use."""

    def __init__(
        self,
        params: Mapping[str, Any],
        context: Mapping[str, Any] | None = None,
        reply: str = "",
        given: Any = None,
        actions: tuple[str, ...] = (),
    ) -> None:
        self.params = params
        self.input = given
        self.actions = actions
        self.context = Context(context or {})
        self.llm = Model(reply)

    def run(self, handler: Any) -> Any:
        return asyncio.run(handler(cast("AsyncNodeContext", self)))


def test_process_fills_the_prompt_in_one_read_and_returns_the_reply() -> None:
    params = {"promptTemplate": "{{ a }} and {{ b }}; {{ c }}", "inputs": {"a": "x", "b": ["n", "y"]}}
    ctx = NodeContext(params, {"x": "X", "_outputs.y": {"deep": 1}}, reply=" as the model wrote it\n")
    assert ctx.run(llm.process) == " as the model wrote it\n"
    assert [prompt for prompt, _ in ctx.llm.calls] == ['X and {"deep":1}; {{ c }}']
    assert ctx.context.reads == 1


def test_options_of_the_node_reach_the_model() -> None:
    params = {"promptTemplate": "p", "system": "be brief", "model": "m", "temperature": 0.5, "maxTokens": 9}
    ctx = NodeContext(params)
    ctx.run(llm.process)
    assert ctx.llm.calls == [("p", {"system": "be brief", "model": "m", "temperature": 0.5, "max_tokens": 9})]


def test_without_params_inputs_the_nodes_own_input_fills_the_template() -> None:
    template = {"promptTemplate": "{{ input }} {{ a }}"}
    for given, prompt in [
        ({"a": 1}, '{"a":1} 1'),
        ({"a": 1, "input": "own"}, "own 1"),
        ("text", "text {{ a }}"),
        (None, "{{ input }} {{ a }}"),
    ]:
        ctx = NodeContext(template, given=given)
        ctx.run(llm.process)
        assert ctx.llm.calls[0][0] == prompt
    ctx = NodeContext({**template, "inputs": {}}, given={"a": 1})
    ctx.run(llm.process)
    assert ctx.llm.calls[0][0] == "{{ input }} {{ a }}"


@pytest.mark.parametrize(
    ("reply", "action"), [("true", "true"), ("False.", "false"), ("untrue", "false"), ("not true", "false")]
)
def test_condition_reads_the_reply(reply: str, action: str) -> None:
    result = NodeContext({"promptTemplate": "?"}, reply=f" {reply} ").run(llm.condition)
    assert result == NodeResult(output=reply, action=action)


def test_an_unclear_reply_fails_the_node_and_may_be_retried() -> None:
    with pytest.raises(llm.UnclearReplyError, match="'well, maybe'") as caught:
        NodeContext({"promptTemplate": "?"}, reply="well, maybe").run(llm.condition)
    assert not isinstance(caught.value, NonRetryableError)
    with pytest.raises(llm.UnclearReplyError) as caught:
        NodeContext({"promptTemplate": "?"}, reply="blah " * 1000).run(llm.condition)
    assert len(str(caught.value)) < 300


def test_router_takes_the_reply_as_the_action() -> None:
    result = NodeContext({"promptTemplate": "?"}, reply='"action_ban".\n').run(llm.route)
    assert result == NodeResult(output='"action_ban".', action="action_ban")


def test_a_model_that_is_held_to_a_schema_chooses_among_the_actions_of_the_edges() -> None:
    ctx = NodeContext({"promptTemplate": "?"}, reply='{"action": "ban"}', actions=("ban", "keep"))
    assert ctx.run(llm.route) == NodeResult(output="ban", action="ban")
    schema = ctx.llm.calls[0][1]["schema"]
    assert schema["properties"] == {"action": {"type": "string", "enum": ["ban", "keep"]}}
    assert (schema["required"], schema["additionalProperties"]) == (["action"], False)
    assert NodeContext({"promptTemplate": "?"}, reply="keep", actions=("keep",)).run(llm.route).action == "keep"


def test_a_model_that_is_held_to_a_schema_gives_a_verdict() -> None:
    ctx = NodeContext({"promptTemplate": "?"}, reply='{"verdict": false}')
    assert ctx.run(llm.condition) == NodeResult(output="false", action="false")
    assert ctx.llm.calls[0][1]["schema"]["properties"] == {"verdict": {"type": "boolean"}}


def test_output_writes_the_text_and_calls_no_model() -> None:
    params = {"promptTemplate": "<{{ a }}>", "inputs": {"a": "x"}}
    ctx = NodeContext(params, {"x": "X"})
    assert ctx.run(llm.output) == "<X>"
    assert ctx.context.values["final_output"] == "<X>"
    ctx = NodeContext({**params, "outputKey": "elsewhere"}, {"x": "X"})
    ctx.run(llm.output)
    assert ctx.context.values == {"x": "X", "elsewhere": "<X>"}
    assert ctx.llm.calls == []


@pytest.mark.parametrize(
    ("handler", "params", "message"),
    [
        (llm.process, {}, r"params\.promptTemplate: Field required"),
        (llm.process, {"promptTemplate": "x", "input": {}}, r"params\.input: Extra inputs"),
        (llm.process, {"promptTemplate": "x", "inputs": {"a": 3}}, r"params\.inputs\.a"),
        (llm.output, {"promptTemplate": "x", "outputKey": ""}, r"params\.outputKey"),
    ],
)
def test_wrong_params_are_named_and_not_retried(handler: Any, params: dict[str, Any], message: str) -> None:
    with pytest.raises(NonRetryableError, match=message):
        NodeContext(params).run(handler)


def test_how_the_handlers_are_declared() -> None:
    handlers: list[Any] = [llm.process, llm.condition, llm.route, llm.output]
    specs = [function.__flowcraft_handler__ for function in handlers]
    assert [spec.name for spec in specs] == ["llm-process", "llm-condition", "llm-router", "output"]
    assert [spec.actions for spec in specs] == [None, ("true", "false"), None, None]
