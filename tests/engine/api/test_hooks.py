"""Webhooks: signed requests start runs, each once."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flowcraft_server.api.webhook import Hook
from flowcraft_server.config.hooks import HookSection
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS, Open

KEY = "0123456789abcdef0123"
WHSEC = "whsec_" + base64.b64encode(KEY.encode()).decode()
SECTIONS = {
    "posts": {"secret": KEY, "input": "{text: body.post.title}"},
    "standard": {"secret": WHSEC, "input": "{text: body.post.title}"},
    "pushes": {"secret": KEY, "scheme": "github", "input": "{text: headers['x-github-event']}"},
    "orders": {"secret": KEY, "dedupe": "body.order", "input": "{text: body.note}"},
    "whole": {"secret": KEY},
}
POST = {"post": {"title": "hello"}}


@pytest.fixture(scope="module")
def hooked(open_api: Open) -> TestClient:
    hooks = {name: Hook.of(name, HookSection(blueprint="echo", **each)) for name, each in SECTIONS.items()}
    return open_api(tokens=TOKENS, hooks=hooks)


def signed(body: bytes, identifier: str = "msg_1", at: float | None = None, key: str = KEY) -> dict[str, str]:
    sent = str(int(time.time() if at is None else at))
    digest = hmac.new(key.encode(), f"{identifier}.{sent}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1a,xyz v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": identifier, "webhook-timestamp": sent, "webhook-signature": signature}


def send(api: TestClient, name: str, payload: Any, headers: Callable[[bytes], dict[str, str]] = signed) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return api.post(f"/hooks/{name}", content=body, headers={"content-type": "application/json", **headers(body)})


def test_a_signed_request_starts_one_run(hooked: TestClient, env: TestEnvironment) -> None:
    for name in ("posts", "standard"):
        first = send(hooked, name, POST)
        assert (first.status_code, first.json()["attached"]) == (201, False), first.text
        assert env.client.get_handle(first.json()["run_id"]).result(60)["say"] == "hello"
        again = send(hooked, name, POST)
        assert (again.status_code, again.json()) == (200, {**first.json(), "attached": True})
        other = send(hooked, name, POST, lambda body: signed(body, "msg_2"))
        assert other.status_code == 201
        assert other.json()["run_id"] != first.json()["run_id"]


def test_what_is_the_same_order_is_one_run_whatever_else_differs(hooked: TestClient) -> None:
    first = send(hooked, "orders", {"order": 7, "note": "a"})
    again = send(hooked, "orders", {"order": 7, "note": "b"}, lambda body: signed(body, "msg_9"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["run_id"] == first.json()["run_id"]
    assert send(hooked, "orders", {"order": 8, "note": "a"}).status_code == 201
    without = send(hooked, "orders", {"note": "a"})
    assert (without.status_code, without.json()["detail"]) == (422, "the request has no body.order")


def test_the_scheme_of_github(hooked: TestClient, env: TestEnvironment) -> None:
    def headers(body: bytes) -> dict[str, str]:
        signature = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        return {"x-hub-signature-256": f"sha256={signature}", "x-github-event": "push", "x-github-delivery": "d1"}

    first = send(hooked, "pushes", {}, headers)
    assert env.client.get_handle(first.json()["run_id"]).result(60)["say"] == "push"
    assert send(hooked, "pushes", {}, headers).status_code == 200
    assert (
        send(hooked, "pushes", {}, lambda body: {**headers(body), "x-hub-signature-256": "sha256="}).status_code == 401
    )


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (lambda _body: {}, "stale_request"),
        (lambda body: {**signed(body), "webhook-signature": ""}, "bad_signature"),
        (lambda body: {**signed(body), "webhook-signature": "v1,é".encode()}, "bad_signature"),
        (lambda body: signed(body + b" "), "bad_signature"),
        (lambda body: signed(body, key="another-key-of-them"), "bad_signature"),
        (lambda body: {**signed(body), "webhook-id": "other"}, "bad_signature"),
        (lambda body: {**signed(body), "webhook-timestamp": str(int(time.time()) + 1)}, "bad_signature"),
        (lambda body: signed(body, at=time.time() - 400), "stale_request"),
        (lambda body: signed(body, at=time.time() + 400), "stale_request"),
    ],
)
def test_what_is_not_signed_now_is_refused(
    hooked: TestClient, headers: Callable[[bytes], dict[str, str]], code: str
) -> None:
    answer = send(hooked, "posts", POST, headers)
    assert (answer.status_code, answer.json()["code"]) == (401, code)


def test_what_does_not_fit_is_refused(hooked: TestClient) -> None:
    assert send(hooked, "nope", POST).status_code == 404
    assert send(hooked, "whole", [1]).json()["detail"] == "`body` gives no object to start a run with"
    assert send(hooked, "whole", b"{").status_code == 422
    assert send(hooked, "whole", b"[" * 100_000).status_code == 422
    assert send(hooked, "whole", {"text": 5}).json()["code"] == "invalid_input"
    assert send(hooked, "posts", {}, lambda body: signed(body, "msg_3")).json()["code"] == "invalid_input"


def test_a_server_that_only_reads_starts_nothing(open_api: Open) -> None:
    hooks = {"posts": Hook.of("posts", HookSection(blueprint="echo", secret=KEY))}
    assert send(open_api(hooks=hooks, read_only=True), "posts", POST).json()["code"] == "read_only"
