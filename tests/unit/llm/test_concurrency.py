import asyncio
import threading

import pytest

from flowcraft_server.llm.concurrency import ConcurrencyLimit


def test_first_come_first_served_across_threads_and_loops() -> None:
    limit = ConcurrencyLimit(1)
    order: list[str] = []
    waiting = threading.Semaphore(0)

    def hold(name: str) -> None:
        waiting.release()
        with limit.held():
            order.append(name)

    async def scene() -> None:
        async with limit.aheld():
            thread = threading.Thread(target=hold, args=("thread",))
            thread.start()
            await asyncio.to_thread(waiting.acquire)
            while not limit._waiting:
                await asyncio.sleep(0)
            task = asyncio.create_task(hold_async("task"))
            while len(limit._waiting) < 2:
                await asyncio.sleep(0)
        await task
        thread.join()

    async def hold_async(name: str) -> None:
        async with limit.aheld():
            order.append(name)

    asyncio.run(scene())
    assert order == ["thread", "task"]


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    limit = ConcurrencyLimit(1)

    async def scene() -> None:
        async with limit.aheld():
            waiter = asyncio.create_task(_enter(limit))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        await asyncio.wait_for(_enter(limit), 1)

    asyncio.run(scene())


def test_a_place_granted_to_a_cancelled_waiter_goes_to_the_next() -> None:
    limit = ConcurrencyLimit(1)

    async def scene() -> None:
        async with limit.aheld():
            first = asyncio.create_task(_enter(limit))
            second = asyncio.create_task(_enter(limit))
            await asyncio.sleep(0)
        first.cancel()  # after the place was handed to it, before it could run
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.wait_for(second, 1)
        await asyncio.wait_for(_enter(limit), 1)

    asyncio.run(scene())


def test_a_waiter_whose_loop_has_gone_is_passed_over() -> None:
    limit = ConcurrencyLimit(1)
    loop = asyncio.new_event_loop()
    with limit.held():
        task = loop.create_task(_enter(limit))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    with limit.held():
        pass
    coroutine = task.get_coro()
    assert coroutine is not None
    coroutine.close()


async def _enter(limit: ConcurrencyLimit) -> None:
    async with limit.aheld():
        pass
