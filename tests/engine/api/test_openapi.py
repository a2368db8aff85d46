"""The OpenAPI document is what the API does: requests that schemathesis makes of it, valid and not, as each role."""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flowcraft_sdk import AsyncClient
from flowcraft_server.api.access import Role
from flowcraft_server.api.app import create_app
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS, Open

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
SCHEMA = schemathesis.openapi.from_dict(create_app(AsyncClient("redis://localhost:1")).openapi())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
KNOWN = {
    "run_id": ["ended", "waits"],
    "blueprint_id": ["approval", "echo"],
    "node_id": ["ask", "say"],
    "name": ["default"],
}


@pytest.fixture(scope="module")
def guarded(open_api: Open, env: TestEnvironment) -> TestClient:
    env.client.start("echo", {"text": "hi"}, run_id="ended").wait(10)
    env.client.start("approval", run_id="waits")
    return open_api(tokens=TOKENS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method.upper()} {each.path}")
def test_no_answer_is_undocumented(guarded: TestClient, operation: Any) -> None:
    cases = operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=st.booleans(), data=st.data())
    def requests(case: Any, known: bool, data: st.DataObject) -> None:
        for name, values in KNOWN.items():
            if known and name in (case.path_parameters or {}):
                case.path_parameters[name] = data.draw(st.sampled_from(values))
        if known and isinstance(case.body, dict) and "blueprint" in case.body:
            case.body["blueprint"] = data.draw(st.sampled_from(["echo", "fails", "large"]))
        if case.query and "wait" in case.query:
            case.query["wait"] = 0
        for role in (None, *Role):
            token = next((each.secret for each in TOKENS if each.role is role), None)
            sent = case.as_transport_kwargs(base_url="http://localhost")
            sent.pop("cookies", None)
            sent["headers"] = {**dict(sent.get("headers") or {}), "host": "localhost"}
            sent["headers"].pop("Authorization", None)
            if token is not None:
                sent["headers"]["authorization"] = f"Bearer {token}"
            answer = guarded.request(**sent)
            case.validate_response(answer, checks=CHECKS)

    requests()
