"""Agents that call the tools of MCP servers."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.responses import RedirectResponse

from flowcraft_sdk import RunFailedError
from flowcraft_server.config.mcp_section import McpServerSection
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.openai_compatible import Endpoint, OpenAICompatible
from flowcraft_server.llm.retrying import RetryPolicy
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.test_agents import calls
from tests.unit.llm.chat_server import ChatServer, chat_server, refusal, reply

pytest.importorskip("mcp")

from mcp.server.mcpserver import MCPServer

Make = Callable[..., TestEnvironment]


def section(log: Path, **more: Any) -> McpServerSection:
    server = str(Path(__file__).with_name("mcp_server.py"))
    return McpServerSection.model_validate(
        {"command": [sys.executable, server, str(log)], "env": {"BUYER": "Ada"}, "tools": ["price", "ord*"], **more}
    )


def asking(make: Make, server: ChatServer, shop: McpServerSection, **params: Any) -> TestEnvironment:
    endpoint = Endpoint(server.url, "key", "test", retries=RetryPolicy(max_attempts=1))
    node = {
        "id": "a",
        "uses": "agent",
        "inputs": "q",
        "params": {"mcp": ["shop"], **params},
        "config": {"maxRetries": 2, "retryDelay": 0},
    }
    return make(
        blueprints={"id": "asks", "nodes": [node]},
        models=LanguageModels({"main": OpenAICompatible("main", endpoint)}),
        settings=WorkerSettings(mcp={"shop": shop}),
    )


def test_tools_of_a_server_are_filtered_prefixed_and_called_once(
    environment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_OF_THE_WORKER", "secret")
    log = tmp_path / "calls"
    answers = [
        calls(("shop_price", {"article": "tea"}), ("shop_price", {"article": "gold"})), refusal(503, "busy"),
        calls(("shop_order", {"article": "tea"}), ("shop_drop_all", {})), reply("done"),
    ]  # fmt: skip
    with chat_server(*answers) as server:
        env = asking(environment, server, section(log))
        handle = env.client.start("asks", {"q": "tea"})
        assert handle.result(timeout=30)["a"] == "done"
        tools = [tool["function"]["name"] for tool in server.requests[0]["tools"]]
        assert sorted(tools) == ["shop_order", "shop_price"]
        priced = [each["content"] for each in server.requests[2]["messages"] if each["role"] == "tool"]
        assert priced[0] == "3"
        assert "Error executing tool price" in priced[1]
        ordered = [each["content"] for each in server.requests[3]["messages"] if each["role"] == "tool"][2:]
        assert ordered[0] == "ordered by Ada, None"  # it has no variables of the worker
        assert "Unknown tool name" in ordered[1]
    assert handle.describe().nodes["a"].attempts == 2
    assert log.read_text().split("\n")[:-1] == ["price tea", "price gold", "order tea"]


@pytest.mark.parametrize("action", ["approve", "refuse"])
def test_a_call_of_a_server_s_tool_may_wait_for_a_person(environment: Make, tmp_path: Path, action: str) -> None:
    log = tmp_path / "calls"
    with chat_server(calls(("shop_order", {"article": "tea"})), reply("done")) as server:
        env = asking(environment, server, section(log), approve=["shop_order"])
        handle = env.client.start("asks", {"q": "tea"})
        env.run_until_idle(30)
        assert not log.exists()
        handle.signal("a-shop_order-1-approval", action=action, payload="No tea.")
        assert handle.result(timeout=30)["a"] == "done"
        assert ("No tea." in server.requests[1]["messages"][-1]["content"]) is (action == "refuse")
    assert log.exists() is (action == "approve")


def test_a_server_that_does_not_start_fails_the_node(environment: Make) -> None:
    with chat_server(reply("done")) as server:
        env = asking(environment, server, McpServerSection(command=("/nowhere/server",)))
        with pytest.raises(RunFailedError, match="nowhere"):
            env.client.start("asks", {"q": "tea"}).result(timeout=30)
        assert server.requests == []


@contextmanager
def shop_at_an_address(seen: list[str | None]) -> Iterator[str]:
    """An MCP server that is reached by HTTP; `/moved` redirects to it by another name of its host."""
    server = MCPServer("shop")

    @server.tool()
    def price(article: str) -> int:
        """What an article costs."""
        return len(article)

    app = server.streamable_http_app()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"authorization", b"").decode() or None)
            if scope["path"] == "/moved":
                return await RedirectResponse(f"http://localhost:{scope['server'][1]}/mcp", 307)(scope, receive, send)
        return await app(scope, receive, send)

    http = uvicorn.Server(uvicorn.Config(watched, host="127.0.0.1", port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=http.run, daemon=True)
    thread.start()
    try:
        while not http.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    finally:
        http.should_exit = True
        thread.join(10)


def test_a_server_at_an_address_gets_its_headers(environment: Make) -> None:
    seen: list[str | None] = []
    with shop_at_an_address(seen) as url, chat_server(calls(("s_price", {"article": "tea"})), reply("done")) as server:
        shop = McpServerSection.model_validate(
            {"url": f"{url}/mcp", "headers": {"Authorization": "Bearer 17"}, "prefix": "s"}
        )
        env = asking(environment, server, shop)
        assert env.client.start("asks", {"q": "tea"}).result(timeout=30)["a"] == "done"
        assert server.requests[1]["messages"][-1]["content"] == "3"
    assert set(seen) == {"Bearer 17"}


def test_a_redirection_to_another_host_is_not_followed(environment: Make) -> None:
    seen: list[str | None] = []
    with shop_at_an_address(seen) as url, chat_server(reply("done")) as server:
        env = asking(environment, server, McpServerSection(url=f"{url}/moved"))
        with pytest.raises(RunFailedError):
            env.client.start("asks", {"q": "tea"}).result(timeout=30)
        assert server.requests == []
