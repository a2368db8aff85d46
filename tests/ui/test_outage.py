"""Pages stay as they are while the API or Redis is away, say so, and go on by themselves: a run of 40,000 events passes meanwhile."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowcraft_server.store.binary import find_server
from flowcraft_server.store.publish import publish_settings
from flowcraft_server.testing import TestEnvironment
from tests.ui.conftest import Page
from tests.ui.histories import add_items, until_waiting
from tests.ui.site import Served

ITEMS = 20_000
PAGES = ("/runs/passing?tab=timeline", "/runs/passing?tab=events", "/runs/passing", "/runs", "/waiting", "/")
LONG = {
    "id": "long",
    "nodes": [{"id": "each", "uses": "ok"}, {"id": "ask", "uses": "wait", "params": {"actions": ["go"]}}],
    "edges": ["each -> ask"],
}


class Redis:
    """A Redis that can be stopped and started; what it has answered is there again.

    Args:
        folder: for its data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [
            "--port",
            str(self._port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
            "--appendonly",
            "yes",
            "--save",
            "",
        ]
        self._process = subprocess.Popen([str(find_server()), *options], stdout=subprocess.DEVNULL)
        with redis.Redis(port=self._port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 600)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.BusyLoadingError:
                    continue

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.stop()


def all_say(pages: list[Page], state: str) -> None:
    for each in pages:
        each.page.wait_for_selector(f'[data-connection][data-state="{state}"]')
        assert each.page.locator("body.stale").count() == (state == "off")


def test_pages_outlive_the_api_and_redis_while_40_000_events_pass(own_redis: Redis, open_page: Any) -> None:
    with TestEnvironment(blueprints=[LONG], handlers={"ok": lambda ctx: "done"}, redis_url=own_redis.url) as env:
        publish_settings(env.link.redis, env.partitions, history=True, max_events=100_000, cancel_grace_ms=30_000)
        run = env.client.start("long", {}, run_id="passing")
        until_waiting(run)
        served = Served(env.url, env.namespace)
        try:
            pages = [open_page() for _ in PAGES]
            for path, each in zip(PAGES, pages, strict=True):
                each.expects_failures = True  # the browser names each attempt to connect
                each.page.set_default_timeout(60_000)
                each.page.goto(served.url + path)
                each.page.evaluate("() => { window.kept = true; }")
            all_say(pages, "on")
            for stop, start in ((own_redis.stop, own_redis.start), (served.stop, served.start)):
                stop()
                all_say(pages, "off")
                assert "Reconnecting" in pages[0].page.inner_text("[data-connection]")
                for each in pages:
                    assert not each.page.locator("[data-retry]").count(), "what was there is still there"
                start()
                all_say(pages, "on")
            add_items(env, "passing", range(ITEMS))
            run.signal("ask", action="go")
            timeline, events, graph, runs = (each.page for each in pages[:4])
            timeline.wait_for_selector(f".lane :text('{ITEMS:,} items')")
            timeline.wait_for_selector(".state.pill.s-completed")
            events.wait_for_selector(".event:has-text('run ended')")
            graph.wait_for_selector('.node.s-completed[data-node="ask"]')
            runs.wait_for_selector('tr[data-key="passing"] .s-completed')
            assert all(each.page.evaluate("() => window.kept") for each in pages), "no page was loaded again"
        finally:
            served.stop()


def test_a_page_that_was_asked_for_while_redis_was_away_comes_by_itself(own_redis: Redis, open_page: Any) -> None:
    with TestEnvironment(blueprints=[LONG], handlers={"ok": lambda ctx: "done"}, redis_url=own_redis.url) as env:
        run = env.client.start("long", {}, run_id="asked-for")
        until_waiting(run)
        served = Served(env.url, env.namespace)
        try:
            opened = open_page()
            opened.expects_failures = True
            page = opened.page
            page.set_default_timeout(60_000)
            own_redis.stop()
            assert page.goto(f"{served.url}/runs/asked-for").status == 503
            all_say([opened], "off")
            own_redis.start()
            page.wait_for_selector('.node.s-waiting[data-node="ask"]')
            all_say([opened], "on")
        finally:
            served.stop()
