"""What agents keep between runs, on the real engine: a local server plays the model and shows what it was sent."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.models.openai")  # now, and not on the event loop of a test that waits for it

from click.testing import CliRunner
from pydantic import ValidationError
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from flowcraft_sdk import AsyncNodeContext, MemoryNotFoundError, NodeContext, RunCancelledError, RunFailedError, handler
from flowcraft_sdk.protocol.memory_scripts import LONGEST_ID, LONGEST_MEMORY_KEY
from flowcraft_server.agents import DurableAgent
from flowcraft_server.agents.conversation import escaped, memory_id_of, own_name
from flowcraft_server.blueprints.agent_params import AgentParams
from flowcraft_server.cli.client import main
from flowcraft_server.cli.client_errors import EXIT_NOT_FOUND
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.openai_compatible import Endpoint, OpenAICompatible
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.memories import StoredMemories
from tests.engine.test_agents import Query, calls, roles
from tests.unit.llm.chat_server import Answer, ChatServer, chat_server, reply

Asking = Callable[..., tuple[TestEnvironment, ChatServer]]
MEMORY = "asks:a"


SEVERAL = pytest.mark.parametrize("asking", [1, 16], indirect=True)
"""On one partition, and on several: run and memory lie in different ones."""


@pytest.fixture
def asking(environment: Callable[..., TestEnvironment], request: pytest.FixtureRequest) -> Iterator[Asking]:
    """Makes an environment with one agent that has a memory, and a server that gives these answers."""
    with ExitStack() as stack:

        def make(
            answers: list[Answer], memory: Any, *, then: str = "echo", **more: Any
        ) -> tuple[TestEnvironment, ChatServer]:
            server = stack.enter_context(chat_server(*answers))
            models = LanguageModels({"main": OpenAICompatible("main", Endpoint(server.url, "key", "test"))})
            params = {"memory": memory, **more.pop("params", {})}
            agent = {
                "id": "a",
                "uses": "agent",
                "inputs": "question",
                "params": params,
                "config": more.pop("config", {}),
            }
            blueprint = {
                "id": "asks",
                "nodes": [agent, {"id": "after", "uses": then}],
                "edges": more.pop("edges", ["a -> after"]),
            }
            handlers = {"echo": lambda ctx: ctx.input, **more.pop("handlers", {})}
            partitions = getattr(request, "param", None)
            made = environment(
                blueprints=[blueprint, *more.pop("blueprints", [])],
                handlers=handlers,
                models=models,
                partitions=partitions,
                **more,
            )
            return made, server

        yield make


def ask(env: TestEnvironment, question: str, user: Any = "ada", **options: Any) -> Any:
    return env.client.start("asks", {"question": question, "userId": user}, **options).result(timeout=60)["after"]


def texts(request: dict[str, Any]) -> list[Any]:
    return [content for _, content in roles(request)]


@SEVERAL
def test_a_further_run_with_the_key_goes_on_from_the_one_before(asking: Asking) -> None:
    env, server = asking(
        [reply("Hello Ada."), reply("You are Ada."), reply("I do not know.")],
        "{{ userId }}",
        params={"instructions": "Be short."},
    )
    assert ask(env, "I am Ada.") == "Hello Ada."
    assert ask(env, "Who am I?") == "You are Ada."
    assert ask(env, "Who am I?", user="bob") == "I do not know."
    first, second, third = server.requests
    assert texts(first) == ["Be short.", "I am Ada."]
    assert texts(second) == ["Be short.", "I am Ada.", "Hello Ada.", "Who am I?"]
    assert texts(third) == ["Be short.", "Who am I?"]
    memory = env.client.admin.memory(f"{MEMORY}/ada")
    assert [(each.role, each.text) for each in memory.conversation] == [
        ("user", "I am Ada."), ("agent", "Hello Ada."), ("user", "Who am I?"), ("agent", "You are Ada."),
    ]  # fmt: skip
    assert (memory.turns, memory.messages) == (2, 4)


@pytest.mark.parametrize("written", ["{cut off", "null", "7", '[{"parts": null}]', '[{"parts": 3}]', "[3]", "[" * 5000])
def test_a_turn_that_no_agent_has_written_is_left_out(asking: Asking, written: str) -> None:
    env, server = asking([reply("Hello Ada."), reply("You are Ada.")], "{{ userId }}")
    assert ask(env, "I am Ada.") == "Hello Ada."
    key = env.keys.memory(f"{MEMORY}/ada")
    until = time.monotonic() + 60
    while not env.link.redis.hexists(key, "t:1"):  # it may be written a moment after the run has ended
        assert time.monotonic() < until
    head = b"\n".join(env.link.redis.hget(key, "t:1").split(b"\n")[:3])
    env.link.redis.hset(key, "t:1", head + b"\n" + written.encode())
    assert env.client.admin.memory(f"{MEMORY}/ada").conversation == ()
    assert ask(env, "Who am I?") == "You are Ada."
    assert texts(server.requests[1]) == ["Who am I?"]


@pytest.mark.parametrize("value", ["many", "", "1e300", "nan", "-7", "0.5"])
def test_a_record_with_numbers_that_are_none_hides_no_other(asking: Asking, value: str) -> None:
    env, _ = asking([reply("Hello Ada."), reply("Hello Bob."), reply("Hello again.")], "{{ userId }}")
    ask(env, "I am Ada.")
    ask(env, "I am Bob.", user="bob")
    assert all(
        env.client.admin.memory(f"{MEMORY}/{user}").turns == 1 for user in ("ada", "bob")
    )  # they are listed by now
    env.link.redis.hset(env.keys.memory(f"{MEMORY}/ada"), mapping=dict.fromkeys(("next", "expires", "bytes"), value))
    assert [each.id for each in env.client.admin.memories()] == [f"{MEMORY}/bob"]
    assert ask(env, "I am Ada.") == "Hello again."
    assert env.client.admin.memory(f"{MEMORY}/ada").turns == 1


def test_the_oldest_turns_make_room_each_with_its_tool_calls(asking: Asking) -> None:
    @handler(arguments=Query)
    def search(ctx: NodeContext) -> str:
        """Search."""
        return f"found {ctx.input['text']}"

    turn = [calls(("search", {"text": "x"})), reply("one")]
    env, server = asking(
        [*turn, *turn, reply("three")],
        {"key": "{{ userId }}", "maxMessages": 7},
        params={"tools": ["search"]},
        handlers={"search": search},
    )
    for question in ("first", "second", "third"):
        ask(env, question)
    assert texts(server.requests[2])[0] == "first" and len(server.requests[2]["messages"]) == 5
    assert [(role, content) for role, content in roles(server.requests[4])] == [
        ("user", "second"), ("assistant", None), ("tool", "found x"), ("assistant", "one"), ("user", "third"),
    ]  # fmt: skip
    kept = env.client.admin.memory(f"{MEMORY}/ada")
    assert [each.role for each in kept.conversation] == ["user", "call", "result", "agent", "user", "agent"]
    assert [each.tool for each in kept.conversation if each.tool] == ["search", "search"]


def test_of_a_turn_that_is_too_large_question_and_answer_are_kept(asking: Asking) -> None:
    @handler(arguments=Query)
    def search(ctx: NodeContext) -> str:
        """Search."""
        return "x" * 5_000

    env, server = asking(
        [calls(("search", {"text": "x"})), reply("one"), reply("y" * 5_000), reply("three")],
        {"key": "{{ userId }}", "maxBytes": 1_500},
        params={"tools": ["search"]},
        handlers={"search": search},
    )
    ask(env, "first")
    assert [each.text for each in env.client.admin.memory(f"{MEMORY}/ada").conversation] == ["first", "one"]
    ask(env, "second")  # too large as well as it is: the memory stays as it was
    ask(env, "third")
    assert texts(server.requests[3]) == ["first", "one", "third"]


def test_a_structured_output_is_a_turn_like_any_other(asking: Asking) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    env, server = asking(
        [calls(("final_result", {"n": 1})), calls(("final_result", {"n": 2}))],
        "{{ userId }}",
        params={"output": schema},
    )
    assert (ask(env, "first"), ask(env, "second")) == ({"n": 1}, {"n": 2})
    assert server.requests[1]["messages"][-1]["content"] == "second"
    assert [each.role for each in env.client.admin.memory(f"{MEMORY}/ada").conversation] == [
        "user",
        "call",
        "result",
    ] * 2


@SEVERAL
def test_a_failed_node_leaves_nothing(asking: Asking) -> None:
    env, server = asking(
        [reply("one"), reply("two")], "{{ userId }}", edges=[{"source": "a", "target": "after", "action": "never"}]
    )
    for _ in range(2):
        with pytest.raises(RunFailedError, match="never"):
            ask(env, "first")
    assert texts(server.requests[1]) == ["first"]
    with pytest.raises(MemoryNotFoundError, match=r"there is no memory 'asks:a/ada'"):
        env.client.admin.memory(f"{MEMORY}/ada")


@SEVERAL
def test_a_node_that_is_cancelled_when_it_has_its_answer_leaves_nothing(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, server = asking([reply("one"), reply("two")], "{{ userId }}")
    remember, cancelled = StoredMemories.remember, []

    def and_cancel(self: StoredMemories, attempt: Any, *args: Any) -> None:
        remember(self, attempt, *args)
        if not cancelled:
            cancelled.append(env.client.get_handle(attempt.claim.run_id).cancel(grace=0))

    monkeypatch.setattr(StoredMemories, "remember", and_cancel)
    with pytest.raises(RunCancelledError):
        ask(env, "first")
    ask(env, "second")
    assert texts(server.requests[1]) == ["second"]
    assert [each.text for each in env.client.admin.memory(f"{MEMORY}/ada").conversation] == ["second", "two"]


@SEVERAL
def test_what_a_worker_has_left_is_made_up_for_by_the_next_reader(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the worker had died between the completion of the node and its turn joining the memory."""
    monkeypatch.setattr(StoredMemories, "settle", lambda *_: None)
    env, server = asking([reply("one"), reply("two")], "{{ userId }}")
    ask(env, "first")
    keys = env.partitions.for_memory(f"{MEMORY}/ada")
    assert env.link.redis.hget(keys.memory(f"{MEMORY}/ada"), "at") is None
    ask(env, "second")
    assert texts(server.requests[1]) == ["first", "one", "second"]
    assert env.client.admin.memory(f"{MEMORY}/ada").turns == 2


@SEVERAL
def test_runs_at_the_same_time_add_their_turns_one_after_the_other(asking: Asking) -> None:
    meet = threading.Barrier(2)

    @handler(arguments=Query)
    def search(ctx: NodeContext) -> str:
        """Search."""
        meet.wait(60)
        return "found"

    call = calls(("search", {"text": "x"}))
    env, server = asking(
        [call, call, reply("done"), reply("done"), reply("three")],
        "{{ userId }}",
        params={"tools": ["search"]},
        handlers={"search": search},
    )
    handles = [env.client.start("asks", {"question": name, "userId": "ada"}) for name in ("left", "right")]
    for handle in handles:
        handle.result(timeout=60)
    ask(env, "third")
    asked = texts(server.requests[4])
    assert sorted(content for content in asked if content in ("left", "right")) == ["left", "right"]
    assert len(asked) == 9 and asked[-1] == "third"
    by_role = [role for role, _ in roles(server.requests[4])]
    assert by_role == ["user", "assistant", "tool", "assistant"] * 2 + ["user"]


def test_each_round_of_a_loop_adds_a_turn_of_its_own(asking: Asking) -> None:
    loop = {
        "id": "rounds",
        "nodes": [
            {"id": "a", "uses": "agent", "inputs": "question", "params": {"memory": "{{ userId }}"}},
            {"id": "again", "uses": "loop-controller", "params": {"condition": "a != 'three'"}},
            {"id": "end", "uses": "echo", "config": {"joinStrategy": "any"}},
        ],
        "edges": [
            {"source": "a", "target": "again"},
            {"source": "again", "target": "a", "action": "continue"},
            {"source": "again", "target": "end", "action": "break"},
        ],
    }
    env, server = asking([reply("one"), reply("two"), reply("three")], "x", blueprints=[loop])
    env.client.start("rounds", {"question": "q", "userId": "ada"}).result(timeout=60)
    assert [len(each["messages"]) for each in server.requests] == [1, 3, 5]
    assert env.client.admin.memory("rounds:a/ada").turns == 3


def test_a_memory_expires(asking: Asking) -> None:
    env, server = asking([reply("one"), reply("two"), reply("three")], {"key": "{{ userId }}", "keepFor": "2d"})
    ask(env, "first")
    env.clock.advance(86_400)
    ask(env, "second")
    assert env.client.admin.memory(f"{MEMORY}/ada").turns == 2
    env.clock.advance(2 * 86_400)
    with pytest.raises(MemoryNotFoundError):
        env.client.admin.memory(f"{MEMORY}/ada")
    assert env.client.admin.memories() == []
    ask(env, "third")
    assert texts(server.requests[2]) == ["third"]


def test_memories_are_listed_and_deleted(asking: Asking) -> None:
    env, server = asking([reply("one")] * 3 + [reply("two")], {"key": "{{ userId }}", "name": "desk"})
    for user in ("ada", "bob/../ada", 7):
        ask(env, "first", user=user)
        env.client.admin.memory(f"desk/{user}")
    listed = env.client.admin.memories()
    assert sorted(each.id for each in listed) == ["desk/7", "desk/ada", "desk/bob/../ada"]
    assert {each.turns for each in listed} == {1} and len(env.client.admin.memories(limit=2)) == 2
    env.client.admin.delete_memory("desk/ada")
    with pytest.raises(MemoryNotFoundError):
        env.client.admin.delete_memory("desk/ada")
    assert len(env.client.admin.memories()) == 2
    ask(env, "second")
    assert texts(server.requests[3]) == ["second"]


def test_the_commands_list_show_and_delete(asking: Asking) -> None:
    env, _ = asking([reply("Hello\nAda \x1b[31m" + "y" * 5_000)], "{{ userId }}")
    ask(env, "I am Ada.", user="ada [x]")
    memory_id = f"{MEMORY}/ada [x]"

    def run(*words: str) -> Any:
        return CliRunner().invoke(
            main, ["--url", env.url, "--namespace", env.namespace, "memory", *words], catch_exceptions=False
        )

    shown = run("show", memory_id)
    assert shown.exit_code == 0 and "\x1b" not in shown.output
    assert shown.output.splitlines()[0].startswith(f"{memory_id}: 1 turn, 2 messages, written ")
    assert shown.output.splitlines()[1:] == ["  user    I am Ada.", shown.output.splitlines()[2]]
    assert shown.output.splitlines()[2].endswith("(5,015 characters)")
    assert memory_id in run("list").output
    assert [each["id"] for each in json.loads(run("list", "--json").output)] == [memory_id]
    assert json.loads(run("show", memory_id, "--json").output)["conversation"][0]["text"] == "I am Ada."
    assert run("delete", memory_id, "--json").exit_code == 2
    assert run("delete", memory_id, "--yes").output == f"deleted {memory_id}\n"
    missing = run("show", memory_id)
    assert (missing.exit_code, missing.stderr.strip()) == (EXIT_NOT_FOUND, f"there is no memory '{memory_id}'")


def test_a_key_without_a_value_fails_the_node_before_a_model_is_asked(asking: Asking) -> None:
    env, server = asking([], "{{ user.id }}")
    with pytest.raises(
        RunFailedError, match=r"AgentMemoryError: agent 'a': params.memory: \{\{ user.id \}\} has no value"
    ):
        ask(env, "first")
    assert server.requests == []


def test_no_value_comes_to_the_key_of_another() -> None:
    marks = {"/", "-"}
    made = {
        text: escaped(text, marks) for text in ("a/b", "a%2Fb", "a-b", "a\nb", "a b", "ä", "\ud800", "..", "a|b", "")
    }
    assert len(set(made.values())) == len(made)
    assert not [text for text in made.values() if "/" in text or "-" in text or not text.isprintable()]
    assert own_name("a:b", "c") != own_name("a", "b:c")
    assert own_name("x" * 300, "c") != own_name("x" * 299 + "y", "c")
    assert len(memory_id_of(own_name("ä" * 200, "ö" * 200), "k" * LONGEST_MEMORY_KEY)) <= LONGEST_ID


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("{{ }}", "names no value"), ("{{ a }}{{ b }}", "a mark between them"), ("{{ a", "expected a text with holes"), ("", "memory"),
        ({"key": "k", "name": "a/b"}, "name"), ({"key": "k", "keepFor": 3}, "with a unit"), ({"key": "k", "keepFor": "20 years"}, "duration"),
        ({"key": "k", "maxMessages": 1}, "maxMessages"), ({"name": "k"}, "key"),
    ],
)  # fmt: skip
def test_a_memory_that_cannot_be_is_refused(given: Any, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        AgentParams.model_validate({"memory": given})


def test_an_agent_in_python_has_a_memory_too(environment: Callable[..., TestEnvironment]) -> None:
    seen: list[list[Any]] = []

    def answer(messages: list[Any], info: Any) -> Any:
        seen.append([part.content for message in messages for part in message.parts])
        return ModelResponse(parts=[TextPart(f"answer {len(seen)}")])

    agent = DurableAgent(Agent(FunctionModel(answer), name="writer"))

    @handler
    async def write(ctx: AsyncNodeContext) -> str:
        memory = {"key": ctx.input["user"], "maxMessages": 4, "name": ctx.input.get("name")}
        if ctx.input.get("twice"):
            await agent.run(ctx, "a", memory="k")
        return (await agent.run(ctx, ctx.input["text"], memory="k" if ctx.input.get("twice") else memory)).output

    env = environment(
        blueprints={"id": "b", "nodes": [{"id": "w", "uses": "write", "inputs": "given"}], "edges": []},
        handlers={"write": write},
    )

    def run(**ctx: Any) -> Any:
        return env.client.start("b", {"given": ctx}).result(timeout=60)

    for text in ("one", "two", "three"):
        run(text=text, user="ada")
    assert seen == [["one"], ["one", "answer 1", "two"], ["one", "answer 1", "two", "answer 2", "three"]]
    assert env.client.admin.memory("b:w/ada").messages == 4
    for wrong, fault in (
        ({"user": ""}, "the key of a memory has 1 to 500"),
        ({"user": "a", "name": "a b"}, "name: "),
        ({"user": "a", "twice": 1}, "in two agents"),
    ):
        with pytest.raises(RunFailedError, match=fault):
            run(text="x", **wrong)
