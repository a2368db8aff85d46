"""Runs are done again, removed, and acted on by a filter."""

import json
from typing import Any

from fastapi.testclient import TestClient

from flowcraft_server.api.access import Role
from tests.engine.api.conftest import TOKENS, Open
from tests.engine.api.test_live import STREAM, frames
from tests.engine.api.test_runs import RUNS, start


def ended(api: TestClient, blueprint: str, ctx: Any = None, **more: Any) -> str:
    run_id = start(api, blueprint, ctx, **more)
    assert api.get(f"{RUNS}/{run_id}/result?wait=30").status_code == 200
    return run_id


def test_a_run_is_done_again_from_what_failed(api: TestClient) -> None:
    old = ended(api, "flaky", {"a": 1, "b": "bad"})
    body = {"from": "failed", "patch": {"b": "b"}}
    made = api.post(f"{RUNS}/{old}/rerun", json=body, headers={"idempotency-key": "again-1"})
    assert (made.status_code, made.headers["location"]) == (201, f"{RUNS}/again-1"), made.text
    assert api.get(f"{RUNS}/again-1/result?wait=30").json()["output"]["second"] == "good b"
    assert api.get(f"{RUNS}/again-1").json()["forked_from"] == old
    assert len(api.get(f"{RUNS}/again-1/nodes/first").json()["attempts"]) == 0, "it keeps the outcome of the old run"
    assert api.post(f"{RUNS}/{old}/rerun", json=body, headers={"idempotency-key": "again-1"}).status_code == 200
    whole = api.post(f"{RUNS}/{old}/rerun")
    assert api.get(f"{whole.headers['location']}/result?wait=30").json()["status"] == "failed"
    refused = api.post(f"{RUNS}/{old}/rerun", json={"from": ["nope"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "rerun_refused")
    running = start(api, "approval")
    assert api.post(f"{RUNS}/{running}/rerun").json()["code"] == "run_state"
    assert api.delete(f"{RUNS}/{running}").status_code == 409
    api.post(f"{RUNS}/{running}/cancel", json={"grace": 0})


def test_a_run_is_removed(api: TestClient) -> None:
    run_id = ended(api, "echo", {"text": "x"})
    assert api.delete(f"{RUNS}/{run_id}").json() == {"deleted": 1}
    assert api.get(f"{RUNS}/{run_id}").status_code == 410
    assert api.delete(f"{RUNS}/{run_id}").json() == {"deleted": 0}
    assert api.delete(f"{RUNS}/nope").status_code == 404


def test_an_action_by_a_filter(api: TestClient, open_api: Open) -> None:
    waits = [start(api, "approval", tags=["bulk"]) for _ in range(3)]
    act = f"{RUNS}/actions"
    cancel = {"action": "cancel", "tag": "bulk", "grace": 0}
    assert api.post(act, json={**cancel, "dry_run": True}).json()["count"] == 3
    some = api.post(act, json={**cancel, "limit": 1}).json()
    assert (some["done"], some["refused"], len(some["outcomes"])) == (1, 0, 1)
    stream = api.post(act, json=cancel, headers=STREAM)
    events = frames(stream.text)
    assert [event["event"] for event in events] == ["outcome", "outcome", "end"]
    assert json.loads(events[-1]["data"]) == {"done": 2, "refused": 0}
    assert {api.get(f"{RUNS}/{run_id}/result?wait=30").json()["status"] for run_id in waits} == {"cancelled"}
    again = api.post(act, json={"action": "rerun", "tag": "bulk", "status": ["cancelled"]}).json()
    assert (again["done"], {each["run_id"] for each in again["outcomes"]}) == (3, set(waits))
    api.post(act, json=cancel)
    operator = {"authorization": f"Bearer {next(each.secret for each in TOKENS if each.role is Role.OPERATE)}"}
    delete = {"action": "delete", "tag": "bulk"}
    assert open_api(tokens=TOKENS).post(act, json=delete, headers=operator).status_code == 403
    assert api.post(act, json={**delete, "status": ["running"]}, headers=STREAM).status_code == 422
    assert api.post(act, json={**delete, "limit": 5000}).status_code == 422
    for new in again["outcomes"]:
        api.get(f"{RUNS}/{new['new_run_id']}/result?wait=30")
    assert api.post(act, json=delete).json()["done"] == 6
    assert api.get(RUNS, params={"tag": "bulk"}).json()["items"] == []


def test_a_message_that_no_node_takes(api: TestClient) -> None:
    run_id = start(api, "approval")
    answer = api.post(f"{RUNS}/{run_id}/messages/ask", json={"message": "hi"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_receiving")
    api.post(f"{RUNS}/{run_id}/cancel", json={"grace": 0})
