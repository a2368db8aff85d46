"""Clients that wait survive what happens around them: a fork after the import, Ctrl-C, a task that is cancelled. So do the runs."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flowcraft_sdk import AsyncClient, RunStatus
from flowcraft_server.testing import TestEnvironment

BLUEPRINTS = {
    "quick": "nodes:\n  a: {uses: echo, inputs: x}\noutputs: {a: a}\n",
    "asks": "nodes:\n  ask: {uses: wait}\noutputs: {answer: ask}\n",
}

PRELOADED = """
import os, sys, threading
from flowcraft_sdk import Client

client = Client(sys.argv[1], namespace=sys.argv[2])        # as an application does when it is imported
assert client.execute("quick", {"x": 0}, timeout=60) == {"a": 0}
waiting = client.start("asks", run_id="of-the-parent")
thread = threading.Thread(target=lambda: print("parent", waiting.result(timeout=60)))
thread.start()                                             # it waits on the client's subscription while others fork
children = []
for number in range(1, 4):
    child = os.fork()
    if child == 0:                                         # a worker process of the server: the same client object
        assert client.execute("quick", {"x": number}, timeout=60) == {"a": number}
        assert [event.type for event in client.start("quick", {"x": number}).events(timeout=20)][-1] == "run_ended"
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
waiting.signal("ask", 1)
thread.join()
assert client.execute("quick", {"x": 9}, timeout=60) == {"a": 9}
print(codes)
"""

INTERRUPTED = """
import sys
from flowcraft_sdk import Client

client = Client(sys.argv[1], namespace=sys.argv[2])
handle = client.start("asks", run_id="interrupted")
handle.wait_for("waiting")
for wait in (handle.result, lambda: list(handle.events()), lambda: list(handle.logs(follow=True)), lambda: list(handle.events(children=True))):
    try:
        print("waiting", flush=True)  # the interrupt may come as soon as this is read
        wait()
    except KeyboardInterrupt:
        print(handle.status(), flush=True)
handle.signal("ask", "fine")
print(handle.result(timeout=60), flush=True)
"""


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input}) as env:
        yield env


def test_a_client_that_was_used_before_a_fork_works_in_parent_and_children(env: TestEnvironment) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELOADED, env.url, env.namespace],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["parent {'answer': 1}", "[0, 0, 0]"]), done.stderr


def test_an_interrupt_ends_the_waiting_and_nothing_else(env: TestEnvironment) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, env.url, env.namespace],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    for _ in range(4):
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "waiting\n"
    printed, errors = program.communicate(timeout=60)
    assert (program.returncode, printed) == (0, "{'answer': 'fine'}\n"), errors


def test_a_task_that_is_cancelled_leaves_run_and_client_as_they_were(env: TestEnvironment) -> None:
    async def main() -> None:
        async with AsyncClient(env.url, namespace=env.namespace) as client:
            handle = await client.start("asks", run_id="cancelled-task")
            assert await handle.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING

            async def follow(**options: bool) -> None:
                async for _ in handle.events(**options):
                    pass

            waits = [
                asyncio.create_task(wait)
                for wait in (handle.result(), handle.wait(), follow(), follow(children=True), handle.result(timeout=60))
            ]
            await asyncio.wait(waits, timeout=0.1)
            for task in waits:
                task.cancel()
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.result(), timeout=0.05)
            async with asyncio.timeout(20):
                assert await handle.status() is RunStatus.WAITING
                await handle.signal("ask", "fine")
                assert await handle.result() == {"answer": "fine"}
                assert await client.execute("quick", {"x": 1}) == {"a": 1}

    asyncio.run(main())
