"""URLs of `webhook` nodes: answered once, whatever is sent and run again meanwhile, and by nobody who has no key."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flowcraft_sdk import AsyncClient, AsyncNodeContext, NodeContext, RunStatus
from flowcraft_sdk.protocol.webhook_keys import WebhookKey, shared_iterations, webhook_key
from flowcraft_server.api.access import Role
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from tests.engine.api.conftest import TOKENS

BLUEPRINTS = {
    "pay": (
        "nodes:\n  mail: {uses: mail, config: {maxRetries: 2, retryDelay: 1ms}}\n  hook: {uses: webhook, needs: mail, params: {actions: [paid, refused],"
        " schema: {type: object, properties: {sum: {type: integer}}, required: [sum]}}}\n"
        "  done: {uses: echo, inputs: hook}\n  stop: {uses: echo, inputs: hook}\n"
        "edges: ['hook -[paid]-> done', 'hook -[refused]-> stop']\n"
    ),
    "rounds": (
        "nodes:\n  ask: {uses: hand_out}\n  hook: {uses: webhook, needs: ask}\n  more: {uses: more, needs: hook, inputs: hook}\n  end: {uses: echo, inputs: hook}\n"
        "edges: ['more -[again]-> ask', 'more -[stop]-> end']\n"
    ),
    "outer": "nodes:\n  sub: {uses: subflow, params: {blueprintId: plain}}\n",
    "plain": "nodes:\n  hook: {uses: webhook}\n",
    "wrong": "nodes:\n  a: {uses: wrong}\n",
}
KEYS: dict[str, list[str]] = {}


def note(ctx: Any, key: str) -> str:
    KEYS.setdefault(ctx.run_id, []).append(key)
    return key


async def mail(ctx: AsyncNodeContext) -> str:
    key = note(ctx, await ctx.webhook_key("hook"))
    if ctx.attempt < 2:
        raise ConnectionError("the mail server is away")
    return key


def wrong(ctx: NodeContext) -> str:
    return ctx.webhook_key("a")


def more(ctx: NodeContext) -> Any:
    from flowcraft_sdk import NodeResult

    return NodeResult(ctx.input, action="again" if ctx.input == "again" else "stop")


HANDLERS = {
    "mail": mail, "echo": lambda ctx: ctx.input, "wrong": wrong, "more": more,
    "hand_out": lambda ctx: note(ctx, ctx.webhook_key("hook")),
}  # fmt: skip


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False) as env:
        yield env


@pytest.fixture(scope="module")
def api(env: TestEnvironment) -> Iterator[TestClient]:
    options = ApiOptions(namespace=env.namespace, tokens=TOKENS)
    with TestClient(
        create_app(AsyncClient(env.url, namespace=env.namespace), options), base_url="http://localhost"
    ) as client:
        yield client


def post(api: TestClient, key: str, body: Any, action: str | None = None) -> int:
    return api.post(f"/webhooks/{key}", json=body, params={"action": action} if action else {}).status_code


def waiting_key(run: Any) -> str:
    run.wait_for(RunStatus.WAITING, timeout=60)
    (point,) = [each for each in run.describe().waiting if each.kind == "webhook"]
    return str(point.webhook_key)


def test_the_first_answer_counts(env: TestEnvironment, api: TestClient) -> None:
    run = env.client.start("pay", run_id="pay-1")
    key = waiting_key(run)
    assert KEYS["pay-1"] == [key, key], "each attempt at a node before it has the key that the node has"
    for body, action in (({"sum": "x"}, "paid"), ({"sum": 3}, None), ({"sum": 3}, "maybe")):
        refused = api.post(f"/webhooks/{key}", json=body, params={"action": action} if action else {})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input"), "it may be sent again, mended"
    assert post(api, key, {"sum": 3}, "paid") == 200
    assert post(api, key, {"sum": 3}, "paid") == 410
    assert run.result(timeout=60)["done"] == {"sum": 3}
    assert post(api, key, {"sum": 4}, "refused") == 410
    run.delete()
    env.client.start("pay", run_id="pay-1")
    assert post(api, key, {"sum": 4}, "paid") == 410, "another run that has the id has other keys"


def test_a_node_that_is_run_again_has_the_same_key(env: TestEnvironment, api: TestClient) -> None:
    run = env.client.start("plain", run_id="plain-1")
    key = waiting_key(run)
    again = run.rerun() if run.cancel() and run.wait(timeout=60) else None
    assert again is not None
    assert waiting_key(again) != key
    assert post(api, key, 1) == 410
    assert post(api, waiting_key(again), None) == 200
    assert again.result(timeout=60) == {"hook": None}


def test_each_round_has_a_key_of_its_own(env: TestEnvironment, api: TestClient) -> None:
    run = env.client.start("rounds", run_id="rounds-1")
    first = waiting_key(run)
    assert post(api, first, "again") == 200
    while len(KEYS["rounds-1"]) < 2 or run.status() is not RunStatus.WAITING:
        run.wait_for(RunStatus.WAITING, timeout=60)
    second = waiting_key(run)
    assert KEYS["rounds-1"] == [first, second]
    assert first != second
    assert post(api, first, "again") == 410, "a request that is sent again does not answer the next round"
    assert post(api, second, "enough") == 200
    assert run.result(timeout=60)["hook"] == "enough"


def test_an_answer_may_come_before_the_node_waits(env: TestEnvironment, api: TestClient) -> None:
    run = env.client.start("plain", delay="1h")
    created = int(env.link.redis.hget(env.partitions.for_run(run.run_id).run(run.run_id), "cr"))
    secret = env.link.redis.hget(env.partitions.home.settings, "webhooks").decode()
    key = WebhookKey(run.run_id, created, "hook")
    assert post(api, key.signed("another deployment's"), {"n": 3}) == 404
    assert [post(api, key.signed(secret), {"n": 1}), post(api, key.signed(secret), {"n": 2})] == [200, 410]
    env.clock.advance(3700)
    assert run.result(timeout=60) == {"hook": {"n": 1}}


def test_only_who_has_the_key_answers(env: TestEnvironment, api: TestClient) -> None:
    run = env.client.start("outer", run_id="outer-1")
    key = waiting_key(run)
    content, _, signature = key.partition(".")
    for guess in (
        "x",
        ".",
        f"{content}.",
        f"{content}.{signature[:-1]}{'B' if signature[-1] == 'A' else 'A'}",
        f"A{content}.{signature}",
        "é.x",
        f"{key}{key}",
        "x" * 9000,
    ):
        assert post(api, guess, 1) in (404, 422), guess
    for role, shown in ((Role.VIEW, False), (Role.OPERATE, True)):
        token = next(each.secret for each in TOKENS if each.role is role)
        for path in ("/api/v1/runs/outer-1", "/api/v1/waiting", "/api/v1/runs/outer-1~1"):
            text = api.get(path, headers={"authorization": f"Bearer {token}"}).text
            assert (key in text) is shown, (role, path)
    assert api.post(f"/webhooks/{key}", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert api.post(f"/webhooks/{key}").status_code == 200, "no body is null"
    run.wait(timeout=60)
    failed = env.client.start("wrong").wait(timeout=60)
    assert "has no node 'a' that uses 'webhook'" in failed.failures[0].message


def test_keys_are_read_as_they_were_made() -> None:
    key = WebhookKey("r", 5, "n[3]", (2, 0))
    assert webhook_key(key.signed("s"), "s") == key
    assert webhook_key(key.signed("s"), "t") is None
    assert webhook_key(key.signed("s").replace(".", "=."), "s") is None
    assert shared_iterations(["a", "b"], [4, 2], ["a"]) == (4,)
    assert shared_iterations(["a"], [4], []) == ()
    assert shared_iterations(["a"], [4], ["a", "b"]) is None
    assert shared_iterations(["a"], [4], ["b"]) is None
