"""Versions on the page of a blueprint, and the picture of what differs between two of them."""

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from flowcraft_sdk import AsyncClient, RunStatus
from flowcraft_server.api.access import Role
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.ui.pages import add_pages
from tests.engine.ui.conftest import HOSTILE, TOKENS

OLD = {
    "id": "letter",
    "nodes": [
        {"id": "write", "uses": "echo", "params": {"apiKey": "key-of-a-partner", "tone": HOSTILE}},
        {"id": "ask", "uses": "echo", "config": {"fallback": "drop"}},
        {"id": "drop", "uses": "echo"},
    ],
    "edges": ["write -> ask"],
}
NEW = {
    "id": "letter",
    "description": "With a stamp",
    "nodes": [
        {"id": "write", "uses": "echo", "params": {"apiKey": "key-of-another", "tone": "dry"}},
        {"id": "stamp", "uses": "echo"},
    ],
    "edges": ["write -> stamp"],
}


HOOK = {"id": "hook", "nodes": [{"id": "called", "uses": "webhook"}], "edges": []}


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=[OLD, HOOK], handlers={"echo": lambda ctx: ctx.input}, check=False) as env:
        env.client.start("letter", run_id="old").wait(20)
        env.publish(NEW)
        yield env


@pytest.fixture(scope="module")
def pages(env: TestEnvironment) -> Iterator[TestClient]:
    app = create_app(AsyncClient(env.url, namespace=env.namespace), ApiOptions(namespace=env.namespace, tokens=TOKENS))
    add_pages(app)
    token = next(each.secret for each in TOKENS if each.role is Role.ADMIN)
    with TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {token}"}) as client:
        yield client


def test_versions_are_listed_and_compared(env: TestEnvironment, pages: TestClient) -> None:
    new, old = (each.version for each in env.client.blueprint_versions("letter"))
    page = pages.get("/blueprints/letter").text
    rows = re.findall(r'<tr data-key="([0-9a-f]+)">.*?</tr>', page, re.DOTALL)
    assert rows == [new, old]
    assert page.count("What differs") == 1
    assert f"/blueprints/letter?compare={old}" in page
    compared = pages.get(f"/blueprints/letter?compare={old}").text
    states = {name: state for state, name in re.findall(r'class="node s-(\w+)".*?data-node="(\w+)"', compared)}
    assert states == {"write": "changed", "stamp": "added", "ask": "removed", "drop": "removed"}
    edges = sorted(re.findall(r'class="edge (\w+) (\w*)"', compared))
    assert edges == [("edge", "added"), ("edge", "removed"), ("fallback", "removed")]
    assert "key-of-a-partner" in compared
    assert HOSTILE not in compared
    viewer = next(each.secret for each in TOKENS if each.role is Role.VIEW)
    seen = pages.get(f"/blueprints/letter?compare={old}", headers={"authorization": f"Bearer {viewer}"}).text
    assert "key-of-a-partner" not in seen
    assert "With a stamp" in seen


def test_the_url_of_a_webhook_is_for_those_who_may_answer(pages: TestClient, env: TestEnvironment) -> None:
    run = env.client.start("hook", run_id="hooked")
    run.wait_for(RunStatus.WAITING, timeout=60)
    key = run.describe().waiting[0].webhook_key
    viewer = next(each.secret for each in TOKENS if each.role is Role.VIEW)
    for path in ("/waiting", "/runs/hooked"):
        assert f"/webhooks/{key}" in pages.get(path).text, path
        assert str(key) not in pages.get(path, headers={"authorization": f"Bearer {viewer}"}).text, path
    run.cancel()


def test_what_cannot_be_compared(pages: TestClient, env: TestEnvironment) -> None:
    assert "no longer kept" in pages.get("/blueprints/letter?compare=0123456789").text
    new = env.client.blueprint_versions("letter")[0].version
    assert "both are the same" in pages.get(f"/blueprints/letter?compare={new}").text
