"""Runs over HTTP: started, read, waited for, cancelled and answered."""

from typing import Any

from fastapi.testclient import TestClient

from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS, Open

RUNS = "/api/v1/runs"


def start(api: TestClient, blueprint: str, ctx: Any = None, **more: Any) -> str:
    answer = api.post(RUNS, json={"blueprint": blueprint, "ctx": ctx or {}, **more})
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


def test_a_run_is_started_once_for_each_id(api: TestClient) -> None:
    body = {"blueprint": "echo", "ctx": {"text": "hello"}, "run_id": "order-1"}
    first = api.post(RUNS, json=body)
    assert (first.status_code, first.headers["location"]) == (201, f"{RUNS}/order-1")
    assert first.json() == {"run_id": "order-1", "attached": False, "href": f"{RUNS}/order-1"}
    again = api.post(RUNS, json=body)
    assert (again.status_code, again.json()["attached"]) == (200, True)
    other = api.post(RUNS, json={**body, "ctx": {"text": "bye"}})
    assert (other.status_code, other.json()["code"]) == (409, "run_conflict")
    assert other.headers["content-type"] == "application/problem+json"
    by_header = {name: body[name] for name in ("blueprint", "ctx")}
    kept = api.post(RUNS, json=by_header, headers={"idempotency-key": "order-1"})
    assert (kept.status_code, kept.json()["run_id"]) == (200, "order-1")
    both = api.post(RUNS, json=body, headers={"idempotency-key": "order-2"})
    assert both.status_code == 422


def test_a_run_belongs_to_the_trace_of_the_request(api: TestClient, env: TestEnvironment) -> None:
    for given, kept in ((f"00-{7:032x}-{9:016x}-01", f"00-{7:032x}-{9:016x}-01".encode()), ("00-nonsense", None)):
        answer = api.post(RUNS, json={"blueprint": "echo", "ctx": {"text": "x"}}, headers={"traceparent": given})
        run_id = answer.json()["run_id"]
        assert env.link.redis.hget(env.partitions.for_run(run_id).run(run_id), "tp") == kept


def test_a_start_may_wait_for_the_result(api: TestClient) -> None:
    answer = api.post(f"{RUNS}?wait=30", json={"blueprint": "echo", "ctx": {"text": "hi"}})
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["output"]["say"]) == ("completed", "hi")
    failed = api.post(f"{RUNS}?wait=30", json={"blueprint": "fails"}).json()
    assert failed["status"] == "failed"
    assert failed["failures"][0]["message"] == "no such customer"
    still = api.post(f"{RUNS}?wait=0", json={"blueprint": "approval"})
    assert still.status_code == 202
    assert still.headers["location"].startswith(RUNS)
    api.post(f"{still.headers['location']}/cancel", json={"grace": 0})


def test_what_does_not_fit_is_refused_with_the_codes_of_the_sdk(api: TestClient) -> None:
    misfit = api.post(RUNS, json={"blueprint": "echo", "ctx": {"text": 7}})
    assert (misfit.status_code, misfit.json()["code"]) == (422, "invalid_input")
    assert misfit.json()["errors"][0]["loc"] == ["text"]
    unknown = api.post(RUNS, json={"blueprint": "eco"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "blueprint_not_found")
    assert unknown.json()["known"] == ["echo"]
    for body in ({"blueprint": "echo", "contxt": {}}, {"blueprint": 3}, [], {"blueprint": "echo", "delay": "soon"}):
        assert api.post(RUNS, json=body).status_code == 422, body
    assert api.get(f"{RUNS}/nope").json()["code"] == "run_not_found"
    assert api.get(f"{RUNS}/nope").status_code == 404
    assert api.get(f"{RUNS}/nope?detial=1").status_code == 422
    assert api.get("/api/v1/nothing").json()["code"] == "not_found"
    assert api.put(RUNS).status_code == 405


def test_a_waiting_run_is_described_answered_and_read(api: TestClient) -> None:
    run_id = start(api, "approval", tags=["a"], memo={"for": "you"})
    handle = f"{RUNS}/{run_id}"
    until_waiting(api, handle)
    described = api.get(handle).json()
    assert (described["memo"], described["tags"]) == ({"for": "you"}, ["a"])
    assert described["waiting"][0]["prompt"] == "Approve?"
    refused = api.post(f"{handle}/signals/ask", json={"payload": {}, "action": "yes"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    answered = api.post(
        f"{handle}/signals/ask", json={"payload": {"by": "Ada"}, "action": "yes"}, headers={"idempotency-key": "s1"}
    )
    assert (answered.status_code, answered.json()) == (200, {"run_id": run_id, "node_id": "ask"})
    result = api.get(f"{handle}/result?wait=30").json()
    assert result["output"]["done"] == {"by": "Ada"}
    assert api.get(f"{handle}/context").json()["ask"] == {"by": "Ada"}
    assert api.get(f"{handle}/context?key=done").json() == {"done": {"by": "Ada"}}
    assert api.get(f"{handle}/context?key=nope").status_code == 404
    node = api.get(f"{handle}/nodes/done").json()
    assert (node["node"]["output"], len(node["attempts"])) == ({"by": "Ada"}, 1)
    assert api.get(f"{handle}/nodes/nope").status_code == 404
    late = api.post(f"{handle}/signals/ask", json={"payload": {"by": "Bob"}, "action": "yes"})
    assert (late.status_code, late.json()["code"]) == (409, "run_state")
    assert api.post(f"{handle}/cancel").json() == {"run_id": run_id, "in_force": False}


def test_what_a_run_has_logged_is_read_by_pages_and_masked(
    api: TestClient, open_api: Open, env: TestEnvironment
) -> None:
    handle = f"{RUNS}/{start(api, 'chatty')}"
    until_waiting(api, handle)
    page = api.get(f"{handle}/logs?node=talk").json()
    assert [(line["node_id"], line["level"], line["message"]) for line in page["items"]] == [
        ("talk", "info", "talking")
    ]
    assert page["next_after"] == page["items"][0]["id"]  # more may come
    assert api.post(f"{handle}/signals/ask", json={}).status_code == 200
    api.get(f"{handle}/result?wait=30")
    rest = api.get(f"{handle}/logs?after={page['next_after']}").json()
    assert ([line["node_id"] for line in rest["items"]], rest["next_after"]) == (["more"], None)
    assert api.get(f"{handle}/logs?after=x").status_code == 422
    assert api.get(f"{RUNS}/nope/logs").status_code == 404
    viewer = open_api(token=TOKENS[0].secret, tokens=TOKENS)
    assert "s3cret" not in viewer.get(f"{handle}/logs").text


def test_a_node_of_a_child_run_is_answered_by_its_path(api: TestClient) -> None:
    handle = f"{RUNS}/{start(api, 'parent')}"
    until_waiting(api, handle)
    answered = api.post(f"{handle}/signals/sub/ask", json={"payload": {"by": "Ada"}, "action": "no"})
    assert answered.json()["node_id"] == "sub/ask"
    assert api.get(f"{handle}/result?wait=30").json()["status"] == "completed"


def test_large_values_are_links(api: TestClient) -> None:
    handle = f"{RUNS}/{start(api, 'large')}"
    output = api.get(f"{handle}/result?wait=30").json()["output"]
    assert (output["truncated"], output["bytes"] > 100_000) == (True, True)
    assert len(api.get(output["href"]).json()["output"]["make"]) == 100_000
    node = api.get(f"{handle}/nodes/make").json()["node"]["output"]
    assert len(api.get(node["href"]).json()["node"]["output"]) == 100_000
    context = api.get(f"{handle}/context").json()["make"]
    assert len(api.get(context["href"]).json()["make"]) == 100_000


def test_a_run_is_cancelled(api: TestClient) -> None:
    handle = f"{RUNS}/{start(api, 'approval')}"
    cancelled = api.post(f"{handle}/cancel", json={"reason": "not needed", "grace": "0s"})
    assert (cancelled.status_code, cancelled.json()["in_force"]) == (202, True)
    result = api.get(f"{handle}/result?wait=30").json()
    assert (result["status"], result["cancel"]["reason"]) == ("cancelled", "not needed")


def test_the_deployment(api: TestClient, env: TestEnvironment) -> None:
    assert api.get("/api/v1/info").json()["namespace"] == env.namespace
    assert api.get("/api/v1/blueprints").json()[0]["id"] == "approval"
    assert api.get("/api/v1/workers").json()[0]["concurrency"] >= 1
    assert api.get("/api/v1/stats").json()["runs"]["completed"] > 0
    assert api.get("/livez").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ok"}


def until_waiting(api: TestClient, handle: str) -> None:
    """Wait until a node of a run waits for a signal: its history has it then."""
    seen = "0"
    while True:
        page = api.get(f"{handle}/events?after={seen}").json()
        if any(event["type"] == "node_waiting" and event["data"]["kind"] != "subflow" for event in page["items"]):
            return
        described = api.get(handle).json()
        if any(point["kind"] == "signal" for point in described["waiting"]):
            return
        seen = page["next_after"]


def test_runs_are_listed_in_pages(api: TestClient) -> None:
    ids = [start(api, "echo", {"text": str(n)}, tags=["page"]) for n in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = api.get(RUNS, params={"tag": "page", "limit": "2", **more}).json()
        found += [run["run_id"] for run in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(found) == sorted(ids)
    api.get(f"{RUNS}/{ids[0]}/result?wait=30")
    by_state = api.get(RUNS, params={"status": ["completed", "failed"], "blueprint": "echo", "q": ids[0]}).json()
    assert [run["run_id"] for run in by_state["items"]] == [ids[0]]
    api.get(f"{RUNS}/{start(api, 'fails')}/result?wait=30")
    assert api.get(RUNS, params={"q": "NO SUCH customer"}).json()["items"][0]["blueprint_id"] == "fails"
    assert api.get(RUNS, params={"since": "2100-01-01T00:00:00Z"}).json() == {"items": [], "next_cursor": None}
    for wrong in (
        {"status": "done"},
        {"limit": "0"},
        {"cursor": "x"},
        {"since": "2026-01-01T00:00:00"},
        {"stauts": "x"},
    ):
        assert api.get(RUNS, params=wrong).status_code == 422, wrong
    detail = api.get(RUNS, params={"status": "done"}).json()["detail"]
    assert detail.startswith("a status is one of scheduled, queued") and detail.endswith("timed_out")


def test_what_waits_and_what_is_published(api: TestClient) -> None:
    handle = f"{RUNS}/{start(api, 'approval', tags=['inbox'])}"
    until_waiting(api, handle)
    waiting = [node for node in api.get("/api/v1/waiting").json()["items"] if node["tags"] == ["inbox"]]
    assert (waiting[0]["prompt"], waiting[0]["actions"]) == ("Approve?", ["yes", "no"])
    api.post(f"{handle}/cancel", json={"grace": 0})
    graph = api.get("/api/v1/blueprints/approval/graph").json()
    assert [node["id"] for node in graph["nodes"]] == ["ask", "done", "stop"]
    assert api.get("/api/v1/blueprints/approval").json()["version"] == graph["version"]
    assert api.get("/api/v1/blueprints/aproval").json()["code"] == "blueprint_not_found"


def test_a_blueprint_is_checked(api: TestClient, tmp_path: Any) -> None:
    check = "/api/v1/blueprints/check"
    assert api.post(check, json={"text": "nodes:\n  a: {uses: echo}\n"}).json() == {"valid": True, "findings": []}
    found = api.post(check, json={"text": "nodes:\n  a: {uses: ech}\n  b: {call: approvl, needs: a}\n"}).json()
    assert not found["valid"]
    assert [(each["line"], each["path"]) for each in found["findings"]] == [(2, "nodes.a.uses"), (3, "nodes.b.call")]
    (tmp_path / "secret").write_text("s3cret")
    outside = api.post(
        check, json={"text": f"nodes:\n  a: {{uses: echo, params: {{t: !include {tmp_path}/secret}}}}\n"}
    )
    assert not outside.json()["valid"]
    assert "s3cret" not in outside.text


def test_queues_and_dead_letters(api: TestClient) -> None:
    assert api.post("/api/v1/queues/spare/pause").json()["paused_since"] is not None
    assert "spare" in [queue["name"] for queue in api.get("/api/v1/queues").json()]
    assert api.post("/api/v1/queues/spare/resume").json()["paused_since"] is None
    assert api.get("/api/v1/dead-letters").json() == []
    for answer in (api.post("/api/v1/dead-letters/nope/replay"), api.delete("/api/v1/dead-letters/nope")):
        assert answer.status_code == 404
    assert api.post("/api/v1/doctor", json={}).json() == []


def test_servers_and_schedules_that_there_are_not(api: TestClient) -> None:
    assert api.get("/api/v1/servers").json() == api.get("/api/v1/schedules").json() == []
    assert api.post("/api/v1/servers/reload").json()["code"] == "no_server"
    assert api.post("/api/v1/schedules/nightly/trigger").json()["code"] == "schedule_not_found"
