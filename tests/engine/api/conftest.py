"""One deployment and one application for all tests of the API in a module."""

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

TOKENS = tuple(Token(f"{role}er", role, f"{role}-token-0123456789") for role in Role)
BLUEPRINTS = {
    "echo": "inputs: {text: string}\nnodes:\n  say: {uses: echo, inputs: text}\n",
    "flaky": "nodes:\n  first: {uses: echo, inputs: a}\n  second: {uses: flaky, inputs: b, needs: first}\n",
    "fails": "nodes:\n  boom: {uses: fail, params: {apiKey: key-of-a-partner, to: you}}\n",
    "approval": (
        "nodes:\n  ask: {uses: wait, params: {prompt: Approve?, actions: ['yes', 'no'],"
        " schema: {type: object, properties: {by: {type: string}}, required: [by]}}}\n"
        "  done: {uses: echo, inputs: ask}\n  stop: {uses: echo, inputs: ask}\n"
        "edges: ['ask -[yes]-> done', 'ask -[no]-> stop']\n"
    ),
    "parent": "nodes:\n  sub: {uses: subflow, params: {blueprintId: approval}}\n",
    "large": "nodes:\n  make: {uses: large}\n",
    "chatty": "nodes:\n  talk: {uses: talk}\n  ask: {uses: wait, needs: [talk]}\n  more: {uses: talk, needs: [ask]}\n",
}


def fail(_ctx: Any) -> None:
    raise ValueError("no such customer")


def flaky(ctx: Any) -> str:
    if ctx.input == "bad":
        raise ValueError("no such customer")
    return f"good {ctx.input}"


def talk(ctx: Any) -> str:
    ctx.logger.bind(apiKey="s3cret-of-a-customer").info("talking")
    for number in range(20):
        ctx.emit("line", {"number": number, "apiKey": "s3cret-of-a-customer"})
    return "talked"


HANDLERS: dict[str, Callable[..., Any]] = {
    "echo": lambda ctx: ctx.input,
    "fail": fail,
    "large": lambda ctx: "x" * 100_000,
    "flaky": flaky,
    "talk": talk,
}


@pytest.fixture(scope="module", autouse=True)
def lines_are_logged() -> Iterator[None]:
    """Other tests leave loguru without a place to write to; then nothing is logged, and so nothing kept."""
    sink = logger.add(lambda _: None)
    yield
    logger.remove(sink)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False) as env:
        yield env


Open = Callable[..., TestClient]


@pytest.fixture(scope="module")
def open_api(env: TestEnvironment) -> Iterator[Open]:
    """Makes clients of applications with options of their own."""
    with ExitStack() as stack:

        def make(*, token: str | None = None, base_url: str = "http://localhost", **options: Any) -> TestClient:
            app = create_app(
                AsyncClient(env.url, namespace=env.namespace), ApiOptions(**{"namespace": env.namespace, **options})
            )
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            return stack.enter_context(
                TestClient(app, base_url=base_url, headers=headers, raise_server_exceptions=False)
            )

        yield make


@pytest.fixture(scope="module")
def api(open_api: Open) -> TestClient:
    """A client of an application without tokens."""
    return open_api()
