"""Further forms of a run and of a blueprint: graph, timeline, versions and what differs between two of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flowcraft_sdk import AsyncClient
from flowcraft_server.api.access import Role
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS, Open

RUNS = "/api/v1/runs"
OLD = "id: letter\nnodes:\n  write: {uses: echo, inputs: text}\n  ask: {uses: wait, needs: write}\n"
NEW = (
    "id: letter\ndescription: With a stamp\nnodes:\n  write: {uses: echo, inputs: text, config: {maxRetries: 3}}\n"
    "  stamp: {uses: echo, needs: write}\n"
)


@pytest.fixture(scope="module")
def letters() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=[OLD], handlers={"echo": lambda ctx: ctx.input}, check=False) as env:
        yield env


@pytest.fixture(scope="module")
def letter_api(letters: TestEnvironment) -> Iterator[TestClient]:
    app = create_app(AsyncClient(letters.url, namespace=letters.namespace), ApiOptions(namespace=letters.namespace))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_versions_of_a_blueprint_and_what_differs(letter_api: TestClient, letters: TestEnvironment) -> None:
    run = letters.client.start("letter", {"text": "hi"}, run_id="old")
    run.wait_for("waiting", timeout=60)
    letters.publish(NEW)
    letters.client.start("letter", {"text": "hi"}, run_id="new").wait(timeout=60)
    versions = letter_api.get("/api/v1/blueprints/letter/versions").json()
    assert [(each["current"], each["runs"], each["node_count"]) for each in versions] == [(True, 1, 2), (False, 1, 2)]
    new, old = (each["version"] for each in versions)
    found = letter_api.get("/api/v1/blueprints/letter/diff", params={"from": old}).json()
    assert (found["from"], found["to"], found["same"]) == (old, new, False)
    assert (found["nodes_added"], found["nodes_removed"]) == (["stamp"], ["ask"])
    changed = {"path": "config", "kind": "added", "before": None, "after": {"maxRetries": 3}}
    assert [(each["id"], each["changes"]) for each in found["nodes_changed"]] == [("write", [changed])]
    assert {"path": "description", "kind": "added", "before": None, "after": "With a stamp"} in found["settings"]
    assert [edge["target"] for edge in found["edges_added"]] == ["stamp"]
    assert letter_api.get("/api/v1/blueprints/letter/diff", params={"from": new, "to": new}).json()["same"] is True
    for path in ("none/versions", "none/diff?from=abcd", "letter/diff?from=abcd"):
        answer = letter_api.get(f"/api/v1/blueprints/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "blueprint_not_found"), path
    assert letter_api.get("/api/v1/blueprints/letter/diff").status_code == 422


def test_a_run_as_graph_and_as_timeline(api: TestClient, env: TestEnvironment) -> None:
    run = env.client.start("approval", run_id="seen")
    run.wait_for("waiting", timeout=60)
    graph = api.get(f"{RUNS}/seen/graph").json()
    assert {node["id"]: node["status"] for node in graph["nodes"]} == {
        "ask": "waiting",
        "done": "pending",
        "stop": "pending",
    }
    assert [(each["source"], each["target"], each["action"]) for each in graph["edges"]] == [
        ("ask", "done", "yes"), ("ask", "stop", "no"),
    ]  # fmt: skip
    run.signal("ask", {"by": "ada"}, action="yes")
    run.wait(timeout=60)
    timeline = api.get(f"{RUNS}/seen/timeline").json()
    rows = {
        row["instance"]: [each["kind"] for each in row["stretches"] if each["kind"] != "queue"]
        for row in timeline["rows"]
    }
    assert (rows["ask"][:2], rows["done"], timeline["status"], timeline["truncated"]) == (
        ["run", "wait"], ["run"], "completed", False,
    )  # fmt: skip
    assert all(each["end"] is not None for row in timeline["rows"] for each in row["stretches"])
    assert api.get(f"{RUNS}/seen/status", params={"wait": 5, "until": "running"}).json()["status"] == "completed"
    for part in ("graph", "timeline", "status", "attempts", "events/last"):
        assert api.get(f"{RUNS}/none/{part}").status_code == 404


def test_large_values_and_secrets_of_a_run(open_api: Open, env: TestEnvironment) -> None:
    env.client.start("large", {"apiKey": "s3cret-of-a-customer", "x": "y" * 100_000}, run_id="large-one").wait(20)
    token = {role: next(each.secret for each in TOKENS if each.role is role) for role in Role}
    viewer, admin = open_api(tokens=TOKENS, token=token[Role.VIEW]), open_api(tokens=TOKENS, token=token[Role.ADMIN])
    path = f"{RUNS}/large-one?ctx=true&outputs=true"
    shown: Any = admin.get(path).json()
    assert (shown["ctx"]["apiKey"], shown["ctx"]["x"]["truncated"]) == ("s3cret-of-a-customer", True)
    assert len(admin.get(shown["ctx"]["x"]["href"]).json()["x"]) == 100_000
    assert len(admin.get(shown["nodes"]["make"]["output"]["href"]).json()["node"]["output"]) == 100_000
    assert len(admin.get(f"{path}&full=true").json()["ctx"]["x"]) == 100_000
    for headers in ({}, {"flowcraft-values": "tagged"}):
        assert "s3cret" not in viewer.get(f"{path}&full=true", headers=headers).text
        assert "s3cret" in admin.get(f"{path}&full=true", headers=headers).text
