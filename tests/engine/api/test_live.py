"""Streams of events: nothing is left out, nothing comes twice, and each says why it ends."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import StreamingResponse

from flowcraft_sdk import AsyncClient
from flowcraft_server.api import live
from flowcraft_server.api.access import Principal, Role
from flowcraft_server.api.app import create_app
from flowcraft_server.api.live import LiveEvents
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import BLUEPRINTS, HANDLERS, Open

RUNS = "/api/v1/runs"
STREAM = {"accept": "text/event-stream"}


def frames(text: str) -> list[dict[str, str]]:
    parts = [part for part in text.split("\n\n") if part.strip(" \n:")]
    return [dict(line.split(": ", 1) for line in part.splitlines() if ": " in line) for part in parts]


def test_the_history_of_an_ended_run_is_a_stream_that_ends(api: TestClient, env: TestEnvironment) -> None:
    handle = env.client.start("echo", {"text": "hi"})
    handle.wait(10)
    page = api.get(f"{RUNS}/{handle.run_id}/events?limit=1000").json()
    assert page["next_after"] is None
    answer = api.get(f"{RUNS}/{handle.run_id}/events", headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    sent = frames(answer.text)
    assert sent[0] == {"retry": "2000"}
    assert [json.loads(frame["data"]) for frame in sent[1:-1]] == page["items"]
    assert sent[-1] == {"event": "end", "data": '{"status":"completed"}'}
    middle = page["items"][1]["id"]
    rest = api.get(f"{RUNS}/{handle.run_id}/events", headers={**STREAM, "last-event-id": middle})
    assert [frame["id"] for frame in frames(rest.text)[1:-1]] == [each["id"] for each in page["items"][2:]]
    last = {**STREAM, "last-event-id": page["items"][-1]["id"]}
    assert api.get(f"{RUNS}/{handle.run_id}/events", headers=last).status_code == 204
    assert api.get(f"{RUNS}/{handle.run_id}/events", headers={**STREAM, "last-event-id": "x"}).status_code == 422
    assert api.get(f"{RUNS}/nope/events", headers=STREAM).status_code == 404


def test_pages_follow_each_other(api: TestClient, env: TestEnvironment) -> None:
    handle = env.client.start("echo", {"text": "hi"})
    handle.wait(10)
    seen: list[str] = []
    after: str | None = "0"
    while after is not None:
        page = api.get(f"{RUNS}/{handle.run_id}/events?limit=2&after={after}").json()
        seen += [event["id"] for event in page["items"]]
        after = page["next_after"]
    assert seen == [event.id for event in handle.events(follow=False)]


class Streams:
    """Streams of an application without a server between them and the test."""

    def __init__(self, env: TestEnvironment) -> None:
        self.client = AsyncClient(env.url, namespace=env.namespace)
        self.app = create_app(self.client)
        self.live: LiveEvents = self.app.state.live

    def request(self) -> Request:
        request = Request({"type": "http", "app": self.app, "headers": [], "method": "GET", "path": "/"})
        request.state.principal = Principal("x", Role.ADMIN)
        return request

    async def open(self, run_id: str, after: str | None = None) -> AsyncIterator[bytes]:
        response = await self.live.respond(self.request(), self.client.get_handle(run_id), after)
        assert isinstance(response, StreamingResponse)
        return response.body_iterator  # type: ignore[return-value]


async def until(stream: AsyncIterator[bytes], kind: str) -> list[dict[str, str]]:
    """Read a stream as far as an event of a kind; behind one that says why it ends nothing may come."""
    read: list[dict[str, str]] = []
    async for part in stream:
        read += frames(part.decode())
        if read and read[-1].get("event") == kind and kind == "node_waiting":
            return read
    assert read and read[-1].get("event") == kind, f"the stream ended without {kind}: {read[-1:]}"
    return read


def test_many_listeners_share_one_subscription_and_lose_nothing(env: TestEnvironment) -> None:
    async def main() -> tuple[list[list[dict[str, str]]], list[str], int]:
        streams = Streams(env)
        handle = await streams.client.start("chatty")
        opened = [await streams.open(handle.run_id) for _ in range(300)]
        heads = await asyncio.gather(*(until(stream, "node_waiting") for stream in opened))
        assert len(streams.live._feeds) <= 1
        tasks = [asyncio.create_task(until(stream, "end")) for stream in opened]
        late = asyncio.create_task(until(await streams.open(handle.run_id, heads[0][-1]["id"]), "end"))
        await handle.signal("ask", {"customers": 3})
        tails = [*await asyncio.gather(*tasks), await late]
        connections = len(env.link.redis.client_list(_type="pubsub"))
        events = [event.id async for event in handle.events(follow=False)]
        read = [[*head, *tail] for head, tail in zip([*heads, heads[0]], tails, strict=True)]
        assert not streams.live._feeds
        await streams.client.aclose()
        return read, events, connections

    before = len(env.link.redis.client_list(_type="pubsub"))
    read, events, connections = asyncio.run(main())
    for frames_of_one in read:
        assert [frame["id"] for frame in frames_of_one if "id" in frame] == events
        assert frames_of_one[-1] == {"event": "end", "data": '{"status":"completed"}'}
    assert connections - before <= 1, "one subscription connection for all"


def test_a_listener_that_is_too_slow_is_dropped_and_resumes(
    env: TestEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> tuple[list[dict[str, str]], list[str]]:
        streams = Streams(env)
        handle = await streams.client.start("chatty")
        slow = await streams.open(handle.run_id)
        read = await until(slow, "node_waiting")
        monkeypatch.setattr(live, "MOST_BEHIND", 5)
        step = asyncio.ensure_future(anext(slow))  # it listens now, and does not read on
        while handle.run_id not in streams.live._feeds:
            await asyncio.sleep(0)
        feed = streams.live._feeds[handle.run_id].task
        await handle.signal("ask")
        await asyncio.wait({feed})
        read += frames((await step).decode())
        if read[-1]["event"] != "dropped":
            read += await until(slow, "dropped")
        after = json.loads(read[-1]["data"])["after"]
        assert after == [frame["id"] for frame in read if "id" in frame][-1]
        monkeypatch.setattr(live, "MOST_BEHIND", 1_000)
        read += await until(await streams.open(handle.run_id, after), "end")
        events = [event.id async for event in handle.events(follow=False)]
        await streams.client.aclose()
        return read, events

    read, events = asyncio.run(main())
    assert [frame["id"] for frame in read if "id" in frame] == events


def test_streams_and_waits_end_with_the_process(env: TestEnvironment) -> None:
    async def main() -> Any:
        streams = Streams(env)
        handle = await streams.client.start("approval")
        stream = await streams.open(handle.run_id)
        await until(stream, "node_waiting")
        waiting = asyncio.ensure_future(until(stream, "closing"))
        request = asyncio.ensure_future(streams.app.state.stopping.unless_stopping(handle.wait()))
        await asyncio.sleep(0)
        streams.app.state.stopping.request()
        assert await request is None
        last = (await waiting)[-1]
        await handle.cancel(grace=0)
        await streams.live.close()
        await streams.client.aclose()
        return last

    assert asyncio.run(main())["event"] == "closing"


def test_there_is_a_bound_on_streams(open_api: Open, env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 0)
    handle = env.client.start("echo", {"text": "hi"})
    answer = open_api().get(f"{RUNS}/{handle.run_id}/events", headers=STREAM)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")


def test_a_stream_outlives_a_restart_of_redis(tmp_path: Path) -> None:
    async def main(store: EmbeddedStore, env: TestEnvironment) -> tuple[list[dict[str, str]], list[str]]:
        streams = Streams(env)
        handle = await streams.client.start("chatty")
        stream = await streams.open(handle.run_id)
        read = await until(stream, "node_waiting")
        tail = asyncio.ensure_future(until(stream, "end"))
        while handle.run_id not in streams.live._feeds:
            await asyncio.sleep(0)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        while not await asyncio.to_thread(store.ensure_running):
            pass
        await handle.signal("ask")
        read += await tail
        events = [event.id async for event in handle.events(follow=False)]
        await streams.client.aclose()
        return read, events

    with (
        EmbeddedStore(tmp_path / "redis", fsync="always") as store,
        TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False, redis_url=store.url) as env,
    ):
        read, events = asyncio.run(main(store, env))
    assert [frame["id"] for frame in read if "id" in frame] == events
    assert read[-1]["event"] == "end"
