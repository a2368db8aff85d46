"""The patterns in examples/agents: with scripted replies, and with a local server that speaks OpenAI's chat protocol."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk import Handle, RunFailedError, RunStatus
from flowcraft_server.llm import Scripted
from flowcraft_server.testing import TestEnvironment

pytest.importorskip("pydantic_ai")

FOLDER = Path(__file__).parents[2] / "examples" / "agents"
SCRIPT = Scripted.from_file("scripted", FOLDER / "replies.yaml").script
TIMEOUT = 30.0


class ChatModel(BaseHTTPRequestHandler):
    """Answers chat completions by the same rules as the provider `scripted`, in the form of a model that calls tools."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = self._reply(request)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        tools = {each["function"]["name"] for each in request.get("tools", ())}
        value = json.loads(text) if text.startswith("{") else {}
        called = (value["tool"], value["arguments"]) if value.get("tool") in tools else None
        if called is None and value and tools and "response_format" not in request:
            called = next(name for name in tools if name.startswith("final_result")), value
        if called is not None:
            function = {"name": called[0], "arguments": json.dumps(called[1])}
            call = {"id": f"call_{len(request['messages'])}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "tool_calls" if called else "stop", "message": message}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        answer = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _reply(self, request: dict[str, Any]) -> str:
        messages = request["messages"]
        system = "\n".join(each["content"] for each in messages if each["role"] in ("system", "developer"))
        latest = []
        for each in reversed(messages):
            if each["role"] not in ("tool", "user"):
                break
            latest.append(each["content"] if isinstance(each["content"], str) else json.dumps(each["content"]))
        return SCRIPT.reply_to("\n".join(reversed(latest)), system).text

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat_model() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ChatModel)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(scope="module", params=["scripted", "main"])
def patterns(request: pytest.FixtureRequest) -> Iterator[TestEnvironment]:
    with chat_model() as url:
        overrides = {"llm.default": request.param, "llm.providers.main.baseUrl": url, "llm.providers.main.apiKey": "k"}
        with TestEnvironment.from_config(FOLDER / "flowcraft.yaml", overrides=overrides, workers=2) as env:
            yield env


def run(env: TestEnvironment, blueprint: str, **ctx: Any) -> Handle[Any]:
    return env.client.start(blueprint, ctx)


@pytest.mark.parametrize(
    ("message", "topic", "branch", "answer"),
    [
        ("Where is my order A-18?", "order", "about-an-order", "The lamp is on its way."),
        ("The lamp of A-18 came broken", "complaint", "about-a-complaint", "The lamp is on its way."),
        ("When do you open?", "other", "about-something-else", "We open at nine; the rest is on our page."),
    ],
)
def test_route(patterns: TestEnvironment, message: str, topic: str, branch: str, answer: str) -> None:
    handle = run(patterns, "route", message=message)
    assert handle.result(timeout=TIMEOUT) == {"topic": topic, "answer": f"Dear customer, {answer}"}
    ran = {name for name, node in handle.describe().nodes.items() if node.status == "completed"}
    assert {each for each in ran if each.startswith("about")} - {"about-an-order-find_order-1"} == {branch}


def test_use_tools(patterns: TestEnvironment) -> None:
    handle = run(patterns, "use-tools", message="Where is A-18?")
    assert handle.result(timeout=TIMEOUT) == {"answer": "The lamp is on its way."}
    assert handle.describe().nodes["desk-find_order-1"].status == "completed"
    missing = run(patterns, "use-tools", message="Where is A-99?")
    assert missing.result(timeout=TIMEOUT) == {"answer": "We know no such order."}


def test_summarise_200_documents(patterns: TestEnvironment) -> None:
    documents = [f"Document {number} is short. It has a second sentence." for number in range(200)]
    result = run(patterns, "summarise", documents=documents).result(timeout=TIMEOUT)
    assert result["parts"] == [f"Document {number} is short." for number in range(200)]
    assert result["summary"] == "All of it in three sentences."


def test_improve(patterns: TestEnvironment) -> None:
    handle = run(patterns, "improve", task="Say when we open.")
    assert handle.result(timeout=TIMEOUT) == {"text": "The shop opens at nine."}
    assert len([each for each in handle.attempts() if each.node_id == "judge"]) == 2


@pytest.mark.parametrize(
    ("action", "answer"),
    [("approve", "The money is on its way to you."), ("refuse", "We cannot pay this back.")],
)
def test_approve(patterns: TestEnvironment, action: str, answer: str) -> None:
    handle = run(patterns, "approve", message="The kettle of A-17 is broken, I want my money back.")
    assert handle.wait_for(RunStatus.WAITING, timeout=TIMEOUT) == RunStatus.WAITING
    (waiting,) = handle.describe().waiting
    assert waiting.kind == "signal"
    assert "39" in (waiting.prompt or "")
    handle.signal(waiting.node_id, action=action)
    assert handle.result(timeout=TIMEOUT) == {"answer": answer}


def test_extract(patterns: TestEnvironment) -> None:
    result = run(patterns, "extract", letter="Two lamps, please. Ada").result(timeout=TIMEOUT)
    assert result == {"order": {"customer": "Ada", "lines": [{"item": "lamp", "count": 2}]}}


def test_hand_over(patterns: TestEnvironment) -> None:
    handle = run(patterns, "hand-over", message="My lamp of A-18 is broken")
    assert handle.result(timeout=TIMEOUT) == {"answer": "The lamp is on its way."}
    (child,) = handle.describe().children
    assert patterns.client.get_handle(child).describe().blueprint_id == "complaints-desk"


def test_a_budget_that_is_used_up_ends_the_run(patterns: TestEnvironment) -> None:
    handle = patterns.client.start("use-tools", {"message": "Where is A-18?"}, budget={"tokens": 1})
    with pytest.raises(RunFailedError, match="BudgetExceededError"):
        handle.result(timeout=TIMEOUT)
