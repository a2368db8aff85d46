"""MCP servers that send too much, or what nobody can use: the node fails with an error that names the server, or the model is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_server.config.mcp_section import McpServerSection
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_agent_mcp import asking
from tests.engine.test_agents import calls
from tests.unit.llm.chat_server import chat_server, reply

pytest.importorskip("mcp")

Make = Callable[..., TestEnvironment]
Page = dict[str, Any]

ENDED = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}


def tool(name: str = "t", **more: Any) -> Page:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def texts(*parts: Page) -> Page:
    return {"content": list(parts)}


class Shop:
    """What a server answers, by method: a result, or a function that writes the whole HTTP answer."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"initialize": ENDED, "list": {"tools": [tool()]}, "call": texts(), **answers}
        self.listed = 0
        self.let_go = threading.Event()

    def section(self, url: str, **more: Any) -> McpServerSection:
        return McpServerSection.model_validate({"url": url, "timeout": 10, "connectTimeout": 2, **more})


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(405)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            method = request["method"].partition("/")[2] or request["method"]
            if "id" not in request:
                return self.answer(202)
            if method not in shop.answers:
                error = {"code": -32601, "message": "no such method"}
                return self.answer(body=json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())
            found = shop.answers[method]
            if method == "list":
                shop.listed += 1
            if callable(found):
                try:
                    found = found(self, shop)
                except OSError:  # the client has left
                    self.close_connection = True
                    return None
            if found is not None:
                body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": found}).encode()
                self.answer(body=body)
            return None

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mcp"
    finally:
        shop.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def without_end(handler: Any, shop: Shop, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("connection", "close")
    handler.end_headers()
    while not shop.let_go.is_set():
        handler.wfile.write(b" " * 1_000_000)


def broken_off(handler: Any, _: Shop) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.send_header("content-type", "application/json")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def refused(handler: Any, _: Shop) -> None:
    handler.answer(401, b"no", "text/plain")


def page_after_page(_: Any, shop: Shop) -> Page:
    return {"tools": [], "nextCursor": str(shop.listed)}


def failure(make: Make, shop: Shop, **more: Any) -> str:
    """What the run of an agent fails with."""
    with served(shop) as url, chat_server(calls(("shop_t", {})), reply("done")) as server:
        env = asking(make, server, shop.section(url, **more))
        with pytest.raises(RunFailedError) as failed:
            env.client.start("asks", {"q": "tea"}).result(timeout=60)
    return str(failed.value).partition("node 'a': ")[2]


def result_for_model(make: Make, shop: Shop) -> str:
    """What the model is answered for its call, by an agent that goes on to its end."""
    with served(shop) as url, chat_server(calls(("shop_t", {})), reply("done")) as server:
        env = asking(make, server, shop.section(url))
        assert env.client.start("asks", {"q": "tea"}).result(timeout=60)["a"] == "done"
        return str(server.requests[1]["messages"][-1]["content"])


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([tool("a\x1b[31m\n")], r"a tool is called 'a\x1b[31m\n', expected 1 to 128 printable ASCII characters"),
        ([tool("n" * 10_000)], "a tool is called 'nnn"),
        ([tool(), tool()], "two of its tools are called 't'"),
        ([tool(f"t{i}") for i in range(501)], "it offers more than 500 tools: name those that are needed in `tools`"),
        ([tool(description="d" * 70_000)], "description and schema of tool 't' have 70,"),
        ([tool(inputSchema={"type": 5})], "does not name its tools: "),
    ],
)  # fmt: skip
def test_tools_that_no_model_can_be_offered_are_refused(environment: Make, tools: list[Page], expected: str) -> None:
    assert failure(environment, Shop(list={"tools": tools})).startswith(f"McpServerError: mcp.shop: {expected}")


def test_only_tools_that_are_offered_are_looked_at(environment: Make) -> None:
    shop = Shop(
        list={"tools": [tool(f"x y{i}") for i in range(600)] + [tool()]}, call=texts({"type": "text", "text": "ok"})
    )
    with served(shop) as url, chat_server(calls(("shop_t", {})), reply("done")) as server:
        env = asking(environment, server, shop.section(url, tools=["t"]))
        assert env.client.start("asks", {"q": "tea"}).result(timeout=60)["a"] == "done"
        assert len(server.requests[0]["tools"]) == 1


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"list": without_end}, "does not name its tools: Failed to parse JSON response: the answer has more than 2,097,152 bytes"),
        ({"list": page_after_page}, "its list of tools has no end, 250 pages were read"),
        ({"initialize": refused}, "cannot be reached: Server returned an error response"),
        ({"initialize": {"capabilities": 5}}, "cannot be reached: "),
        ({"call": broken_off}, "tool 't' was called and has given no result: "),
    ],
)  # fmt: skip
def test_a_server_that_fails_is_named(environment: Make, answers: dict[str, Any], expected: str) -> None:
    assert failure(environment, Shop(**answers), timeout=60).startswith(f"McpServerError: mcp.shop: {expected}")


@pytest.mark.parametrize("status", [200, 500])
def test_a_result_without_end_is_not_read_on(environment: Make, status: int) -> None:
    told = result_for_model(environment, Shop(call=lambda handler, shop: without_end(handler, shop, status)))
    assert ("more than 16,777,216 bytes" if status == 200 else "error response") in told


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "x" * 3_000_000}, "x" * 3_000_000),
        ({"type": "image", "data": "not base64", "mimeType": "image/png"}, "the result of the tool cannot be read"),
        ({"type": "resource", "resource": {"uri": "file:///a", "blob": "aGk=", "mimeType": "application/x"}},
         "a file of 2 bytes and type 'application/x', which is not shown"),
    ],
)  # fmt: skip
def test_the_model_is_told_what_came_of_a_call(environment: Make, part: Page, expected: str) -> None:
    assert expected in result_for_model(environment, Shop(call=texts(part)))
