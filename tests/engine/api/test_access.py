"""What a request may do: by role, by cookie, by host, by origin, by size."""

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from flowcraft_sdk import AsyncClient, errors
from flowcraft_server.api.access import VIEW, Role, all_routes, check_routes, role_of
from flowcraft_server.api.answers import _payloads_masked
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions, options_of
from flowcraft_server.api.problems import STATUS_OF_CODE, Problem
from flowcraft_server.api.sessions import FAILURE_SECONDS, FAILURES, FailedLogins
from flowcraft_server.config.api_section import ApiSection
from flowcraft_server.config.model import Settings
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS, Open

RUNS = "/api/v1/runs"
ROUTES = all_routes(create_app(AsyncClient("redis://localhost:1"), ApiOptions()).routes)
TABLE = {
    (method, route.path): role_of(route).role
    for route in ROUTES
    for method in route.methods  # type: ignore[union-attr]
}
PUBLIC = {
    ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"),
    ("POST", "/api/v1/session"), ("DELETE", "/api/v1/session"),
    ("POST", "/hooks/{name}"), ("POST", "/webhooks/{key}"),
}  # fmt: skip
OPERATE = {
    ("POST", RUNS), ("POST", f"{RUNS}/{{run_id}}/cancel"), ("POST", f"{RUNS}/{{run_id}}/signals"),
    ("POST", f"{RUNS}/{{run_id}}/signals/{{node_id:path}}"), ("POST", "/api/v1/dead-letters/{run_id}/replay"),
    ("POST", f"{RUNS}/actions"), ("POST", f"{RUNS}/{{run_id}}/rerun"), ("POST", f"{RUNS}/{{run_id}}/messages/{{node_id:path}}"),
    *(("POST", f"/api/v1/schedules/{{schedule_id}}/{verb}") for verb in ("pause", "resume", "trigger")),
}  # fmt: skip
ADMIN = {
    ("POST", "/api/v1/queues/{name}/pause"), ("POST", "/api/v1/queues/{name}/resume"),
    ("DELETE", f"{RUNS}/{{run_id}}"), ("DELETE", "/api/v1/dead-letters/{run_id}"), ("POST", "/api/v1/doctor"), ("DELETE", "/api/v1/schedules/{schedule_id}"),
    ("POST", "/api/v1/servers/reload"), ("POST", "/api/v1/servers/drain"), ("DELETE", "/api/v1/memories/{memory_id:path}"),
}  # fmt: skip


def token(role: Role) -> str:
    return next(each.secret for each in TOKENS if each.role is role)


@pytest.fixture(scope="module")
def guarded(open_api: Open) -> TestClient:
    return open_api(tokens=TOKENS, allowed_hosts=("*.example.org",), redactor=Redactor(names=["*number*"]))


@pytest.mark.parametrize("route", sorted(TABLE), ids=" ".join)
def test_each_route_requires_its_role(guarded: TestClient, route: tuple[str, str]) -> None:
    """The table of routes and roles, and that each is held."""
    expected = (
        None if route in PUBLIC else Role.ADMIN if route in ADMIN else Role.OPERATE if route in OPERATE else Role.VIEW
    )
    assert TABLE[route] is expected, "a new route stands in one of the sets above, or is one that only reads"
    assert expected is not Role.VIEW or route[0] == "GET" or route[1].endswith(("/check", "/wait")), (
        "who only looks on changes nothing"
    )
    method, path = route[0], route[1].replace("{run_id}", "r").replace("{node_id:path}", "n").replace("{node_id}", "n")
    refused = [guarded.request(method, path).status_code]
    refused += [guarded.request(method, path, headers=bearer(role)).status_code for role in Role]
    if expected is None:
        assert not {401, 403} & set(refused) or route[1] == "/api/v1/session"
        return
    allowed = [expected in role.includes for role in Role]
    assert refused[0] == 401
    assert [status not in (401, 403) for status in refused[1:]] == allowed, refused


def bearer(role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {token(role)}"}


def test_a_route_without_a_role_is_refused() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.get("/with", dependencies=[VIEW])(lambda: None)
    check_routes(app)
    app.get("/without")(lambda: None)
    with pytest.raises(RuntimeError, match="/without declares no role"):
        check_routes(app)


def test_a_wrong_token_is_none(guarded: TestClient) -> None:
    for header in ("Bearer wrong", "Bearer", f"Basic {token(Role.ADMIN)}", "Bearer " + token(Role.ADMIN)[:-1], ""):
        answer = guarded.get("/api/v1/info", headers={"authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), header
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_logs_in_and_out(open_api: Open) -> None:
    browser = open_api(tokens=TOKENS)
    assert browser.post("/api/v1/session", json={"token": "guess"}).status_code == 401
    answer = browser.post("/api/v1/session", json={"token": token(Role.OPERATE)})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Max-Age=43200", "Path=/"))
    assert token(Role.OPERATE) not in cookie
    assert browser.get("/api/v1/session").json() == {"name": "operateer", "role": "operate", "read_only": False}
    stolen = dict(browser.cookies)
    assert browser.delete("/api/v1/session").status_code == 204
    assert browser.get("/api/v1/session").status_code == 401
    browser.cookies.update(stolen)
    assert browser.get("/api/v1/session").status_code == 401, "an ended session has ended"
    name, value = next(iter(stolen.items()))
    others = open_api(tokens=TOKENS)
    others.cookies.set(name, value.replace("operateer~", "adminer~"))
    assert others.get("/api/v1/session").status_code == 401, "it is signed with the token that it names"


def test_a_session_expires(open_api: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = open_api(tokens=TOKENS, session_seconds=60)
    browser.post("/api/v1/session", json={"token": token(Role.VIEW)})
    assert browser.get("/api/v1/session").status_code == 200
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _self: 2**33)
    assert browser.get("/api/v1/session").status_code == 401


def test_failed_logins_are_slowed(open_api: Open) -> None:
    browser = open_api(tokens=TOKENS)
    codes = [browser.post("/api/v1/session", json={"token": f"guess {n}"}).status_code for n in range(FAILURES + 1)]
    assert codes == [401] * FAILURES + [429]
    right = browser.post("/api/v1/session", json={"token": token(Role.VIEW)})
    assert (right.status_code, right.json()["code"]) == (429, "too_many_logins")
    assert 0 < int(right.headers["retry-after"]) <= FAILURE_SECONDS
    now = [0.0]
    failed = FailedLogins(lambda: now[0])
    for _ in range(FAILURES):
        failed.check("a")
        failed.note("a")
    failed.check("b")
    with pytest.raises(Problem):
        failed.check("a")
    now[0] = FAILURE_SECONDS + 1
    failed.check("a")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8088", 200), ("127.0.0.1", 200), ("[::1]:8088", 200), ("x.example.org", 200), ("LOCALHOST", 200),
     ("evil.test", 421), ("example.org", 421), ("localhost.evil.test", 421), ("xexample.org", 421), ("", 421)],
)  # fmt: skip
def test_only_known_hosts_are_answered_for(guarded: TestClient, host: str, status: int) -> None:
    answer = guarded.get("/openapi.json", headers={"host": host})
    assert answer.status_code == status
    assert guarded.get("/livez", headers={"host": host}).status_code == 200, "probes use addresses"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, 404),
        ({"sec-fetch-site": "none"}, 404),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:81"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(api: TestClient, headers: dict[str, str], status: int) -> None:
    answer = api.post(RUNS, json={"blueprint": "nope"}, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    assert api.options(RUNS, headers={**headers, "access-control-request-method": "POST"}).status_code == 405


def test_bodies_are_bounded_and_json(open_api: Open) -> None:
    small = open_api(max_request=2000)
    body = b'{"blueprint": "echo", "ctx": {"text": "' + b"x" * 3000 + b'"}}'
    kind = {"content-type": "application/json"}
    assert small.post(RUNS, content=body, headers=kind).json()["code"] == "request_too_large"
    chunks = (body[at : at + 100] for at in range(0, len(body), 100))
    chunked = small.post(RUNS, content=chunks, headers=kind)
    assert (chunked.status_code, chunked.json()["code"]) == (413, "request_too_large")
    for other in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert small.post(RUNS, content=b"{}", headers={"content-type": other}).status_code == 415
    for wrong in (b"{", b"\xff", b"[" * 1500, b"nul"):
        assert small.post(RUNS, content=wrong, headers=kind).status_code in (400, 422), wrong


def test_each_answer_has_the_headers(guarded: TestClient) -> None:
    for path in ("/livez", "/api/v1/info", "/nothing", "/openapi.json"):
        headers = guarded.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert guarded.get("/api/v1/info").headers["cache-control"] == "no-store"


def test_a_server_that_only_reads(open_api: Open) -> None:
    reading = open_api(tokens=TOKENS, read_only=True)
    answer = reading.post(RUNS, json={"blueprint": "echo"}, headers=bearer(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (403, "read_only")
    assert reading.get("/api/v1/info", headers=bearer(Role.VIEW)).status_code == 200


def test_secrets_are_masked_for_those_who_look_on(guarded: TestClient, env: TestEnvironment) -> None:
    handle = env.client.start("chatty", {"customer": {"password": "hunter22", "name": "Ada"}, "phone_number": "123"})
    page = f"{RUNS}/{handle.run_id}"

    def context(role: Role) -> dict[str, Any]:
        found: dict[str, Any] = guarded.get(f"{page}/context", headers=bearer(role)).json()
        return found

    assert context(Role.OPERATE)["customer"] == {"password": "hunter22", "name": "Ada"}
    assert context(Role.VIEW)["customer"] == {"password": "********", "name": "Ada"}
    assert context(Role.VIEW)["phone_number"] == "********"
    for event in handle.events():
        if event.type == "node_waiting":
            break
    for role, shown in ((Role.VIEW, "********"), (Role.OPERATE, "s3cret-of-a-customer")):
        events = guarded.get(f"{page}/events", headers=bearer(role)).json()["items"]
        assert {event["data"]["data"]["apiKey"] for event in events if event["type"] == "custom"} == {shown}
        (node,) = guarded.get("/api/v1/blueprints/fails/graph", headers=bearer(role)).json()["nodes"]
        assert node["params"] == {"apiKey": "********" if role is Role.VIEW else "key-of-a-partner", "to": "you"}
    handle.cancel(grace=0)


def test_what_steps_have_given_is_masked() -> None:
    options: Any = SimpleNamespace(redactor=Redactor())
    step = {"name": "ask", "value": {"apiKey": "s3cret"}, "details": {"password": "hunter22"}}
    shown = _payloads_masked({"steps": [step]}, options)["steps"][0]
    assert shown == {"name": "ask", "value": {"apiKey": "********"}, "details": {"password": "********"}}


def test_each_error_of_the_sdk_has_its_status_code() -> None:
    ended = {
        "error",
        "wait_timeout",
        "run_unsuccessful",
        "run_failed",
        "run_cancelled",
        "run_timed_out",
    }  # never answered with
    of_clients = {"access_denied", "unexpected_reply", "backup"}  # made of answers, and of files
    kinds = [errors.FlowcraftError]
    for kind in kinds:
        kinds += [below for below in kind.__subclasses__() if below.__module__.startswith("flowcraft_sdk")]
    assert {kind.code for kind in kinds} - ended - of_clients == set(STATUS_OF_CODE)


@pytest.mark.parametrize(
    ("bind", "more"),
    [("10.0.0.5:80", ("10.0.0.5",)), ("0.0.0.0:80", ()), ("[::]:80", ()), ("localhost:80", ("localhost",))],
)
def test_the_address_that_it_listens_on_may_be_asked_for(bind: str, more: tuple[str, ...]) -> None:
    tokens = [{"name": "a", "role": "view", "token": "0123456789abcdef"}]
    settings = Settings(api=ApiSection(bind=bind, auth={"tokens": tokens}, allowed_hosts=("x.org",)))
    assert options_of(settings).allowed_hosts == ("x.org", *more)
