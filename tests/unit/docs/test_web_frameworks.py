"""The applications of the page on web frameworks, served and asked for real."""

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import flowcraft_sdk
from flowcraft_server.testing import TestEnvironment

PAGE = (Path(__file__).parents[3] / "docs/howto/web-frameworks.md").read_text("utf-8")
BLUEPRINT = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints={"order": BLUEPRINT}, handlers={}) as env:
        monkeypatch.setenv("FLOWCRAFT_REDIS_URL", env.url)
        monkeypatch.setenv("FLOWCRAFT_NAMESPACE", env.namespace)
        yield env


def module_of(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """The page's block whose first line names a file."""
    (text,) = re.findall(rf"```python\n(# {name}\.py,.*?)```", PAGE, re.DOTALL)
    module = types.ModuleType(f"page_{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, f"web-frameworks.md {name}.py", "exec"), module.__dict__)
    return module


def test_fastapi(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(module_of(monkeypatch, "app").app) as browser:
        assert browser.post("/orders/o-1", json={"customer": "Ada"}).json() == {"run": "o-1", "new": True}
        assert browser.post("/orders/o-1", json={"customer": "Ada"}).json() == {"run": "o-1", "new": False}
        assert browser.post("/orders/o-2", json={"customer": 7}).status_code == 422
        assert browser.get("/orders/o-3").status_code == 404
        assert browser.post("/orders/o-1", json={"customer": "Bob"}).status_code == 409
        assert "a run id is" in browser.post("/orders/a|b", json={"customer": "Ada"}).json()["detail"]
        assert [browser.get(f"/orders/o-3/{part}").status_code for part in ("result", "events")] == [404, 404]
        assert browser.post("/orders/o-3/answer?by=Bob&action=yes").status_code == 404
        assert browser.get("/orders/o-1/events?after=x").status_code == 422
        env.client.get_handle("o-1").wait_for("waiting", timeout=60)
        assert browser.get("/orders/o-1/result").status_code == 202
        assert browser.get("/orders/o-1").json()["waiting"][0]["prompt"] == "Ship it?"
        assert browser.post("/orders/o-1/answer?by=Bob&action=maybe").status_code == 422
        assert browser.post("/orders/o-1/answer?by=Bob&action=yes").json() == {"answered": "approve"}
        assert browser.post("/orders/o-1/answer?by=Bob&action=yes").status_code == 409
        env.client.get_handle("o-1").wait(timeout=20)
        assert browser.get("/orders/o-1/result").json() == {"result": {"by": "Bob"}}
        events = browser.get("/orders/o-1/events").text
        assert events.startswith("id: 1\ndata: ")
        assert '"type":"run_ended"' in events


def test_each_error_of_a_request_has_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    page = module_of(monkeypatch, "app")
    client, handle = flowcraft_sdk.AsyncClient, flowcraft_sdk.AsyncHandle
    called = [client.start, client.execute, client.get_handle, handle.result, handle.describe, handle.status]
    called += [handle.signal, handle.cancel, handle.events]
    raised = {name for each in called for name in re.findall(r"^ +(\w+Error): ", each.__doc__ or "", re.MULTILINE)}
    assert {"BlueprintNotFoundError", "RunLimitError", "RunFailedError", "SerializationError"} <= raised
    kinds = tuple(page.STATUSES)
    assert {name for name in raised if not issubclass(getattr(flowcraft_sdk, name), kinds)} == set()


def test_a_blueprint_that_is_not_published_is_no_error_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestEnvironment() as env:
        monkeypatch.setenv("FLOWCRAFT_REDIS_URL", env.url)
        monkeypatch.setenv("FLOWCRAFT_NAMESPACE", env.namespace)
        with TestClient(module_of(monkeypatch, "app").app) as browser:
            answer = browser.post("/orders/o-1", json={"customer": "Ada"})
        assert (answer.status_code, "order" in answer.json()["detail"]) == (503, True)


def test_django(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(SECRET_KEY="test", ROOT_URLCONF="page_views", ALLOWED_HOSTS=["*"])
        django.setup()
    views = module_of(monkeypatch, "views")
    from django.test import Client
    from django.urls import clear_url_caches

    clear_url_caches()
    browser: Any = Client()
    with views.flowcraft:
        placed = browser.post("/orders/d-1", '{"customer": "Ada"}', content_type="application/json")
        assert (placed.status_code, placed.json()) == (202, {"run": "d-1", "new": True})
        wrong = browser.post("/orders/d-2", '{"customer": 7}', content_type="application/json")
        assert wrong.status_code == 422
        assert browser.get("/orders/d-3").status_code == 404
        assert browser.post("/orders/d-3/answer", {"by": "Bob", "action": "no"}).status_code == 404
        other = browser.post("/orders/d-1", '{"customer": "Bob"}', content_type="application/json")
        named = browser.post("/orders/a|b", '{"customer": "Bob"}', content_type="application/json")
        assert (other.status_code, named.status_code) == (409, 422)
        env.client.get_handle("d-1").wait_for("waiting", timeout=60)
        assert browser.get("/orders/d-1").json()["waiting"][0]["actions"] == ["yes", "no"]
        assert browser.post("/orders/d-1/answer", {"by": "Bob", "action": "no"}).json() == {"answered": "approve"}
        assert env.client.get_handle("d-1").wait(timeout=20).output == {"by": "Bob"}
        assert browser.post("/orders/d-1/answer", {"by": "Bob", "action": "no"}).status_code == 409
