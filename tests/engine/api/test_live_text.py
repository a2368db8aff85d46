"""What nodes stream, by the HTTP API and the command."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from starlette.responses import StreamingResponse

from flowcraft_sdk import AsyncClient, Client, NonRetryableError
from flowcraft_server.api import live_text
from flowcraft_server.api.app import create_app
from flowcraft_server.api.live_text import NodeStreams
from flowcraft_server.cli.client_errors import EXIT_NOT_FOUND, line_and_code
from flowcraft_server.cli.client_stream import stream
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import Open
from tests.engine.api.test_live import STREAM, frames

RUNS = "/api/v1/runs"
GATES: dict[str, threading.Event] = {}


def writes(ctx: Any) -> str:
    ctx.stream_text("Hello ")
    GATES.setdefault(ctx.run_id, threading.Event()).wait(30)
    ctx.stream_text("\x1b[2Jworld", part="more")
    return "Hello world"


def breaks(ctx: Any) -> None:
    ctx.stream_text("half")
    raise NonRetryableError("no more")


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    flows = {"writes": "nodes:\n  a: {uses: writes}\n", "breaks": "nodes:\n  a: {uses: breaks}\n"}
    with TestEnvironment(blueprints=flows, handlers={"writes": writes, "breaks": breaks}) as env:
        yield env


def go_on(run_id: str) -> None:
    GATES.setdefault(run_id, threading.Event()).set()


def test_a_page_has_what_there_is_and_the_stream_all_until_the_end(api: TestClient, env: TestEnvironment) -> None:
    handle = env.client.start("writes")
    assert "Hello " in [getattr(item, "text", "") for item in _first(handle, 2)]
    href = f"{RUNS}/{handle.run_id}/nodes/a/stream"
    page = api.get(href).json()
    assert [(item["type"], item.get("attempt"), item.get("text")) for item in page["items"]] == [
        ("started", 1, None),
        ("text", None, "Hello "),
    ]
    assert api.get(f"{href}?after={page['next_after']}").json() == {"items": [], "next_after": page["next_after"]}
    go_on(handle.run_id)
    handle.wait(30)
    whole = api.get(href, headers=STREAM)
    assert whole.headers["content-type"].startswith("text/event-stream")
    sent = frames(whole.text)
    assert [frame.get("event") for frame in sent] == [None, "started", "text", "text", "end"]
    assert [json.loads(frame["data"]) for frame in sent[1:]] == [
        {"attempt": 1},
        {"text": "Hello ", "part": ""},
        {"text": "\x1b[2Jworld", "part": "more"},
        {"status": "completed"},
    ]
    rest = frames(api.get(href, headers={**STREAM, "last-event-id": page["next_after"]}).text)
    assert rest[1:] == sent[3:]
    assert api.get(href, headers={**STREAM, "last-event-id": sent[-1]["id"]}).status_code == 204
    assert api.get(href).json()["next_after"] is None


def _first(handle: Any, count: int) -> list[Any]:
    items = handle.stream("a", timeout=30)
    return [next(items) for _ in range(count)]


def test_what_is_not_there_is_a_problem(api: TestClient, env: TestEnvironment) -> None:
    handle = env.client.start("breaks")
    for accept in ({}, STREAM):
        answer = api.get(f"{RUNS}/{handle.run_id}/nodes/b/stream", headers=accept)
        assert (answer.status_code, answer.json()["code"]) == (404, "node_not_found")
        assert api.get(f"{RUNS}/nope/nodes/a/stream", headers=accept).status_code == 404
        assert api.get(f"{RUNS}/{handle.run_id}/nodes/a/stream?after=x", headers=accept).status_code == 422


def test_there_is_a_bound_on_streams(open_api: Open, env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_text, "MOST_LISTENERS", 0)
    handle = env.client.start("breaks")
    answer = open_api().get(f"{RUNS}/{handle.run_id}/nodes/a/stream", headers=STREAM)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")


def test_streams_follow_and_end_with_the_process(env: TestEnvironment) -> None:
    async def main() -> list[dict[str, str]]:
        client = AsyncClient(env.url, namespace=env.namespace)
        app = create_app(client)
        streams: NodeStreams = app.state.node_streams
        handle = await client.start("writes")
        followed, ended = [], []
        responses = [streams.respond(client.get_handle(handle.run_id), "a", None) for _ in range(50)]
        for response in responses:
            assert isinstance(response, StreamingResponse)
            parts = response.body_iterator
            followed.append([await anext(parts), await anext(parts), await anext(parts)])  # type: ignore[arg-type]
        assert all(part[2].endswith(b'data: {"text":"Hello ","part":""}\n\n') for part in followed)  # type: ignore[union-attr]
        app.state.stopping.request()
        for response in responses:
            ended.append([part async for part in response.body_iterator])  # type: ignore[attr-defined]
        await app.state.live.close()
        await client.aclose()
        go_on(handle.run_id)
        assert streams._count == 0
        return [frames(parts[-1].decode())[-1] for parts in ended]

    assert {frame["event"] for frame in asyncio.run(main())} == {"closing"}


def test_the_command_prints_the_text_and_nothing_that_commands_the_terminal(env: TestEnvironment) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(stream, arguments, obj=lambda: Client(env.url, namespace=env.namespace))

    handle = env.client.start("writes")
    go_on(handle.run_id)
    done = run(handle.run_id, "a")
    assert (done.exit_code, done.stdout) == (0, "Hello \\x1b[2Jworld\n")
    assert run(handle.run_id, "a", "--part", "more").stdout == "\\x1b[2Jworld\n"
    lines = [json.loads(line) for line in run(handle.run_id, "a", "--json").stdout.splitlines()]
    assert [line["type"] for line in lines] == ["started", "text", "text", "ended"]
    missing = run(handle.run_id, "b").exception
    assert line_and_code(missing)[1] == EXIT_NOT_FOUND
    failed = run(env.client.start("breaks").run_id, "a")
    assert (failed.exit_code, failed.stdout) == (1, "half\n")
    assert "has ended: failed" in failed.stderr
