"""What the worker process enters before its first node, and what handlers get of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker import lifespan as module
from flowcraft_server.worker.lifespan import LifespanError

FLOW = "nodes:\n  plain: {uses: plain}\n  waits: {uses: waits, needs: [plain]}\noutputs: {plain: plain, waits: waits}\n"


def plain(ctx: NodeContext, *, db: str, limit: int = 7, none: str = "default") -> list[Any]:
    return [db, limit, none, ctx.resources["db"]]


async def waits(ctx: AsyncNodeContext, *, db: str) -> list[Any]:
    return [db, ctx.resources["loop"] is asyncio.get_running_loop()]


def test_an_asynchronous_one_lives_on_the_loop_of_the_coroutines() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, Any]]:
        task = asyncio.current_task()
        seen.append("entered")
        yield {"db": "rows", "limit": 9, "loop": asyncio.get_running_loop()}
        assert asyncio.current_task() is task
        seen.append("left")

    with TestEnvironment(
        blueprints={"flow": FLOW}, handlers={"plain": plain, "waits": waits}, lifespan=lifespan
    ) as env:
        assert seen == ["entered"]
        for _ in range(2):
            found = env.client.execute("flow", timeout=30)
            assert found == {"plain": ["rows", 9, "default", "rows"], "waits": ["rows", True]}
        assert seen == ["entered"], "once for each process"
    assert seen == ["entered", "left"]


def test_a_plain_one_is_left_by_the_thread_that_entered_it() -> None:
    """And objects may be yielded, and generator functions need not be decorated."""
    threads: list[threading.Thread] = []

    def lifespan() -> Iterator[SimpleNamespace]:
        threads.append(threading.current_thread())
        yield SimpleNamespace(db=3)
        threads.append(threading.current_thread())

    def asks(ctx: NodeContext, *, db: int) -> list[int]:
        return [db, ctx.resources.db]

    with TestEnvironment(
        blueprints={"flow": "nodes:\n  a: {uses: asks}\n"}, handlers={"asks": asks}, lifespan=lifespan
    ) as env:
        assert env.client.execute("flow", timeout=30)["a"] == [3, 3]
    assert threads[0] is threads[1]


def test_without_one_there_are_no_resources() -> None:
    handlers = {"asks": lambda ctx: ctx.resources, "takes": plain}
    flows = {"flow": "nodes:\n  a: {uses: asks}\n", "takes": "nodes:\n  a: {uses: takes}\n"}
    with TestEnvironment(blueprints=flows, handlers=handlers) as env:
        assert env.client.execute("flow", timeout=30)["a"] is None
        (failure,) = env.client.start("takes").wait(timeout=30).failures
        assert failure.type.endswith("MissingResource")
        assert "takes 'db', which no lifespan has yielded" in failure.message


@contextmanager
def _without_db() -> Iterator[Any]:
    yield {}


@contextmanager
def _failing() -> Iterator[Any]:
    raise RuntimeError("no database")
    yield


@asynccontextmanager
async def _failing_on_the_loop() -> AsyncIterator[Any]:
    raise RuntimeError("no database")
    yield


@pytest.mark.parametrize(
    ("lifespan", "message"),
    [
        (_failing, "lifespan '_failing' failed: RuntimeError: no database, raised in "),
        (_failing_on_the_loop, "lifespan '_failing_on_the_loop' failed: RuntimeError: no database, raised in "),
        (_without_db, "handler 'plain' takes 'db', which lifespan '_without_db' has not yielded"),
        (lambda: 3, "gives a int, which is no context manager"),
    ],
)
def test_a_worker_does_not_start_without_it(lifespan: Any, message: str) -> None:
    env = TestEnvironment(handlers={"plain": plain}, lifespan=lifespan, workers=0)
    with env, pytest.raises(LifespanError) as raised:
        env.add_worker()
    assert message in str(raised.value)


def test_one_that_is_not_left_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.05)
    let_go = threading.Event()

    @contextmanager
    def lifespan() -> Iterator[None]:
        yield
        let_go.wait(30)

    with TestEnvironment(lifespan=lifespan):
        pass
    let_go.set()
