"""What a process executes is there to be read by another one."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_server.worker.execution_record import SLOTS, ExecutionRecord, Stepwise, create_record, read_record


@pytest.fixture
def record() -> Iterator[int]:
    descriptor = create_record()
    yield descriptor
    os.close(descriptor)


def test_what_is_executed_now(record: int) -> None:
    writing = ExecutionRecord(record)
    assert read_record(record) == []
    writing.begin(b"3|run|a|b")
    assert read_record(record) == [("run", "a|b", "3")]
    writing.end()
    assert read_record(record) == []


def test_each_thread_has_a_slot_of_its_own(record: int) -> None:
    writing = ExecutionRecord(record)
    began, let_go = threading.Barrier(4), threading.Event()

    def execute(number: int) -> None:
        writing.begin(f"{number}|r|n".encode())
        began.wait()
        let_go.wait()

    threads = [threading.Thread(target=execute, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    began.wait()
    assert sorted(read_record(record) or ()) == [("r", "n", str(number)) for number in range(3)]
    let_go.set()
    for thread in threads:
        thread.join()


def test_what_is_too_long_or_too_much_is_no_evidence(record: int) -> None:
    writing = ExecutionRecord(record)
    writing.begin(b"?")
    assert read_record(record) is None
    writing.end()
    writing._next = SLOTS + 5
    thread = threading.Thread(target=writing.begin, args=(b"1|r|n",))
    thread.start()
    thread.join()
    assert read_record(record) == [("r", "n", "1")]


def test_a_coroutine_is_executed_at_its_steps_alone(record: int) -> None:
    writing = ExecutionRecord(record)
    seen: list[Any] = []

    async def work() -> str:
        seen.append(read_record(record))
        await asyncio.sleep(0.01)
        seen.append(read_record(record))
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("cancelled")
        async with asyncio.timeout(5):
            return await asyncio.wait_for(asyncio.sleep(0, "done"), 5)

    async def main() -> Any:
        task = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(outer()), 5))
        await asyncio.sleep(0)
        seen.append(read_record(record))
        return await task

    async def outer() -> Any:
        inner = asyncio.current_task()
        assert inner is not None
        asyncio.get_running_loop().call_later(0.05, inner.cancel)
        return await Stepwise(work(), writing, b"1|r|n")

    assert asyncio.run(main()) == "done"
    assert seen == [[("r", "n", "1")], [], [("r", "n", "1")], "cancelled"]


def test_what_a_coroutine_raises_passes(record: int) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    async def main() -> None:
        await Stepwise(fails(), ExecutionRecord(record), b"1|r|n")

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert read_record(record) == []
