"""Handlers that close descriptors of their process: it is replaced, what ran beside them completes, and no byte goes to a stranger."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_sdk import Client
from flowcraft_sdk._operations import doctor as doctor_module
from flowcraft_server.store.descriptors import DescriptorLostError
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink, StoreUnavailable, connect
from tests.acceptance.server_program import Server, end_all, eventually

FILE = """
name: descriptors
handlers:
  closes: deployed:closes
  closes_in_coroutine: deployed:closes_in_coroutine
  closes_always: deployed:closes_always
  closes_loop: deployed:closes_loop
  closes_selector: deployed:closes_selector
  closes_output: deployed:closes_output
  innocent: deployed:innocent
  patient: deployed:patient
blueprints: {dirs: [flows]}
executor: {workers: 3, lease: 20s, maxCrashes: 2, processes: PROCESSES}
redis: {url: "${REDIS_URL}"}
"""

HANDLERS = '''
import asyncio, os, time

def _once(ctx, first, last):
    """Closes everything, and opens a file under each number that is free now; written to is none of them."""
    if os.path.exists(ctx.input + "/closed"):
        return "tame"
    open(ctx.input + "/closed", "a").close()
    os.closerange(first, last)
    files = [os.open(f"{ctx.input}/file-{os.getpid()}-{number}", os.O_CREAT | os.O_RDWR) for number in range(40)]
    time.sleep(1)
    return "wild"

def closes(ctx):
    return _once(ctx, 3, 1000)

def closes_output(ctx):
    return _once(ctx, 0, 1000)

async def closes_in_coroutine(ctx):
    return _once(ctx, 3, 1000)

def closes_always(ctx):
    os.closerange(3, 1000)
    time.sleep(1)
    return "wild"

async def closes_loop(ctx):
    if os.path.exists(ctx.input + "/closed"):
        return "tame"
    open(ctx.input + "/closed", "a").close()
    loop = asyncio.get_running_loop()
    for owner in (loop._csock, loop._ssock, loop._selector):
        os.close(owner.fileno())
    await asyncio.sleep(0.1)
    return "wild"

async def closes_selector(ctx):
    if os.path.exists(ctx.input + "/closed"):
        return "tame"
    open(ctx.input + "/closed", "a").close()
    asyncio.get_running_loop()._selector.close()
    await asyncio.sleep(0.1)
    return "wild"

def innocent(ctx):
    time.sleep(0.2)
    return ctx.run_id

async def patient(ctx):
    while not os.path.exists(ctx.input):
        await asyncio.sleep(0.05)
    return "waited"
'''

NAMES = (
    "closes",
    "closes_output",
    "closes_in_coroutine",
    "closes_always",
    "closes_loop",
    "closes_selector",
    "innocent",
    "patient",
)
TIMEOUT = 60.0


@pytest.fixture(params=["1", "2"], ids=["alone", "supervised"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Client]]:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flowcraft.yaml").write_text(FILE.replace("PROCESSES", request.param))
    (tmp_path / "deployed.py").write_text(HANDLERS)
    for name in NAMES:
        (tmp_path / "flows" / f"{name}.yaml").write_text(f"nodes:\n  node: {{uses: {name}, inputs: folder}}\n")
    with EmbeddedStore(tmp_path / "store") as store:
        try:
            program = Server(tmp_path, "run", environ={"REDIS_URL": store.url})
            program.wait_for("serving 'descriptors'")
            with Client(store.url, namespace="descriptors") as client:
                yield program, client
        finally:
            end_all(tmp_path)


@pytest.mark.parametrize("name", ["closes", "closes_output", "closes_in_coroutine", "closes_loop", "closes_selector"])
def test_what_ran_beside_it_completes(server: tuple[Server, Client], tmp_path: Path, name: str) -> None:
    program, client = server
    beside = [client.start("innocent", {"folder": ""}) for _ in range(20)]
    under_way = client.start("patient", {"folder": f"{tmp_path}/go"})
    wild = client.start(name, {"folder": str(tmp_path)})
    assert wild.result(timeout=TIMEOUT)["node"] == "tame"
    assert [run.result(timeout=TIMEOUT)["node"] for run in beside] == [run.run_id for run in beside]
    (tmp_path / "go").touch()
    assert under_way.result(timeout=TIMEOUT)["node"] == "waited"
    assert program.process.poll() is None
    assert {file.name: file.read_bytes() for file in tmp_path.glob("file-*") if file.stat().st_size} == {}
    assert client.driver.run(doctor_module.examine_all(client.deployment)) == []
    program.process.terminate()
    assert program.ends() == 0, program.printed[-3000:]


def test_one_that_does_it_each_time_ends_among_the_dead_letters(server: tuple[Server, Client], tmp_path: Path) -> None:
    _, client = server
    under_way = client.start("patient", {"folder": f"{tmp_path}/go"})
    wild = client.start("closes_always", {"folder": str(tmp_path)})
    wild.wait(timeout=TIMEOUT)
    (failure,) = wild.describe().failures
    assert failure.type == "WorkerLost"
    innocent = client.start("innocent", {"folder": ""})
    assert innocent.result(timeout=TIMEOUT)["node"] == innocent.run_id
    assert not under_way.done()
    (tmp_path / "go").touch()
    assert under_way.result(timeout=TIMEOUT)["node"] == "waited"


class TestConnections:
    """A connection whose number has become another's."""

    @pytest.fixture
    def store_url(self, tmp_path: Path) -> Iterator[str]:
        with EmbeddedStore(tmp_path / "store") as store:
            yield store.url

    @staticmethod
    def _taken_by_a_stranger(opened: socket.socket) -> tuple[socket.socket, int]:
        """The other end of what is open under its number now."""
        stranger, ours = socket.socketpair()
        number = opened.fileno()
        os.dup2(stranger.fileno(), number)
        stranger.close()
        ours.settimeout(0.1)
        return ours, number

    def _check_stranger(self, ours: socket.socket, number: int) -> None:
        with pytest.raises(TimeoutError):  # nothing was written to it, and it was not closed
            ours.recv(1)
        os.fstat(number)
        os.close(number)
        ours.close()

    def test_of_a_thread(self, store_url: str) -> None:
        link = StoreLink(store_url)
        assert link.sleep(["nothing"], 0.01) is None
        taken = self._taken_by_a_stranger(link._connection()._connection._sock)
        with pytest.raises(StoreUnavailable, match="closed by code of a handler"):
            link.sleep(["nothing"], 0.01)
        assert link.sleep(["nothing"], 0.01) is None
        self._check_stranger(*taken)
        link.close()

    def test_of_the_pool(self, store_url: str) -> None:
        client = connect(store_url)
        assert client.ping()
        (connection,) = client.connection_pool._available_connections
        taken = self._taken_by_a_stranger(connection._sock)
        assert eventually(lambda: _answers(client), 5.0)
        self._check_stranger(*taken)
        client.close()

    def test_of_a_subscription(self, store_url: str) -> None:
        client = connect(store_url)
        with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe("channel")
            pubsub.get_message(timeout=1.0)
            taken = self._taken_by_a_stranger(pubsub.connection._sock)
            with pytest.raises(DescriptorLostError):
                pubsub.get_message(timeout=0.1)
        self._check_stranger(*taken)
        client.close()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False
