"""One deployment with runs in several states, and an application with the pages."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from loguru import logger

from flowcraft_sdk import AsyncClient
from flowcraft_server.api.access import Role, Token
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.ui.pages import add_pages

TOKENS = tuple(Token(f"{role}er", role, f"{role}-token-0123456789") for role in Role)
HOSTILE = '"><script>alert(1)</script>'
BLUEPRINTS = {
    "echo": "inputs: {text: string}\nnodes:\n  say: {uses: echo, inputs: text}\n",
    "fails": "nodes:\n  boom: {uses: fail, params: {apiKey: key-of-a-partner, to: you}}\n",
    "approval": (
        "nodes:\n  ask: {uses: wait, params: {prompt: Approve?, actions: ['yes', 'no'],"
        " schema: {type: object, properties: {by: {type: string}, count: {type: integer}}, required: [by]}}}\n"
        "  done: {uses: echo, inputs: ask}\n  stop: {uses: echo, inputs: ask}\n"
        "edges: ['ask -[yes]-> done', 'ask -[no]-> stop']\n"
    ),
    "parent": "nodes:\n  sub: {uses: subflow, params: {blueprintId: echo, inputs: {text: text}}}\n",
}


def fail(ctx: Any) -> None:
    ctx.step(f"find {HOSTILE}", lambda: {"apiKey": "s3cret-of-a-customer"})
    ctx.logger.bind(apiKey="s3cret-of-a-customer").warning("who is {}", HOSTILE)
    raise ValueError(f"no such customer {HOSTILE}")


HANDLERS: dict[str, Callable[..., Any]] = {"echo": lambda ctx: ctx.input, "fail": fail}


@pytest.fixture(scope="module", autouse=True)
def lines_are_logged() -> Iterator[None]:
    """Other tests leave loguru without a place to write to; then nothing is logged, and so nothing kept."""
    sink = logger.add(lambda _: None)
    yield
    logger.remove(sink)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False) as env:
        client = env.client
        client.start("echo", {"text": HOSTILE, "apiKey": "s3cret-of-a-customer"}, run_id="echoed", tags=[HOSTILE]).wait(
            10
        )
        client.start("fails", {}, run_id="failed").wait(10)
        client.start("parent", {"text": "x"}, run_id="parent").wait(10)
        kept = client.start("approval", {}, run_id="kept")
        goes_on = client.start("approval", {}, run_id="kept~own", parent=kept, on_parent_cancel="abandon")
        kept.cancel(grace=0)
        goes_on.cancel(grace=0)
        client.start("approval", {}, run_id="asks").wait_for("waiting", timeout=60)
        yield env


Open = Callable[..., TestClient]


@pytest.fixture(scope="module")
def open_pages(env: TestEnvironment) -> Iterator[Open]:
    """Makes clients of applications with options of their own."""
    with ExitStack() as stack:

        def make(*, token: str | None = None, **options: Any) -> TestClient:
            client = AsyncClient(env.url, namespace=env.namespace)
            app = create_app(client, ApiOptions(**{"namespace": env.namespace, **options}))
            add_pages(app)
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            return stack.enter_context(
                TestClient(app, base_url="http://localhost", headers=headers, raise_server_exceptions=False)
            )

        yield make


@pytest.fixture(scope="module")
def pages(open_pages: Open) -> TestClient:
    """A client of an application without tokens."""
    return open_pages()
