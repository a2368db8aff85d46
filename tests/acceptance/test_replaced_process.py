"""A process that lost more threads than `executor.abandonedThreads` to its functions runs its program anew, in its own place."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_sdk import Client, Handle
from flowcraft_sdk._operations import doctor as doctor_module
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.embedded import EmbeddedStore, running_url
from tests.acceptance.server_program import Server, end_all, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

FILE = """
name: replaced
handlers: {stuck: deployed_stuck:stuck, patient: deployed_stuck:patient, quick: deployed_stuck:quick}
blueprints: {dirs: [flows]}
executor: {workers: 3, lease: 30s, drainTimeout: 10s, abandonedThreads: 1}
redis: {url: "${REDIS_URL:-embedded:}"}
"""

HANDLERS = '''
import os, time

def stuck(ctx):
    """Does not come back, but for a process that was started after the file `tame` was made."""
    while not os.path.exists(ctx.input + "/tame"):
        time.sleep(0.05)
    return os.getpid()

def patient(ctx):
    with open(ctx.input + "/began", "a") as began:
        began.write(f"{os.getpid()}\\n")
    while not os.path.exists(ctx.input + "/go"):
        time.sleep(0.02)
    return os.getpid()

def quick(ctx):
    return os.getpid()
'''

FLOWS = {
    "stuck": "nodes:\n  node: {uses: stuck, inputs: folder, config: {timeout: 300ms}}\n",
    "patient": "nodes:\n  node: {uses: patient, inputs: folder}\n  next: {uses: quick, needs: [node]}\n",
    "quick": "nodes:\n  node: {uses: quick}\n",
}

TIMEOUT = 30.0


class Deployment:
    """A server of one process, and a client."""

    def __init__(self, folder: Path, server: Server, url: str) -> None:
        self.folder = folder
        self.server = server
        self.client = Client(url, namespace="replaced")
        self._redis = redis.Redis.from_url(url)

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def start(self, name: str) -> Handle[dict[str, int]]:
        return self.client.start(name, {"folder": str(self.folder)})

    def starts(self) -> int:
        """How often the program has begun to serve."""
        return self.server.printed.count("serving 'replaced'")

    def workers(self) -> list[bytes]:
        return list(self._redis.zrange(Keys("replaced").workers, 0, -1))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wear_out(self) -> None:
        """Have more threads lost than it bears, and wait for the fresh program."""
        before = self.starts()
        stuck = [self.start("stuck") for _ in range(2)]
        for run in stuck:
            run.wait(timeout=TIMEOUT)
            (failure,) = run.describe().failures
            assert failure.type == "NodeTimeout"
        assert eventually(lambda: self.starts() > before, TIMEOUT), self.server.printed[-3000:]


@pytest.fixture(params=["run", "dev", "worker"])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flowcraft.yaml").write_text(FILE)
    (tmp_path / "deployed_stuck.py").write_text(HANDLERS)
    for name, text in FLOWS.items():
        (tmp_path / "flows" / f"{name}.yaml").write_text(text)
    with EmbeddedStore(tmp_path / "store") as store:
        environ = {} if request.param == "dev" else {"REDIS_URL": store.url}
        try:
            if request.param == "worker":  # it serves what others publish
                publisher = Server(tmp_path, "run", environ=environ)
                publisher.wait_for("serving 'replaced'")
                publisher.signal(signal.SIGTERM)
                assert publisher.ends() == 0
            server = Server(tmp_path, request.param, environ=environ)
            server.wait_for("serving 'replaced'")
            url = running_url(tmp_path / ".flowcraft" / "data") if request.param == "dev" else store.url
            assert url is not None
            deployment = Deployment(tmp_path, server, url)
            yield deployment
            deployment.client.close()
        finally:
            end_all(tmp_path)


def test_it_goes_on_under_its_id_with_all_runs_and_drains(deployed: Deployment) -> None:
    pid = deployed.pid
    under_way = deployed.start("patient")
    began = deployed.folder / "began"
    assert eventually(began.exists)

    deployed.wear_out()
    assert deployed.server.process.poll() is None
    assert eventually(
        lambda: began.read_text().splitlines() == [str(pid)] * 2
    )  # given up, not awaited for a lease of 30 s
    assert deployed.start("quick").result(timeout=TIMEOUT)["node"] == pid
    assert eventually(lambda: len(deployed.workers()) == 1)  # the record of the worker that it was is gone

    deployed.server.signal(signal.SIGTERM)  # while a node runs: it may finish
    deployed.server.wait_for("stopping: what runs may finish")
    (deployed.folder / "go").touch()
    assert deployed.server.ends() == 0, deployed.server.printed[-3000:]
    assert "handing back" not in deployed.server.printed
    if "dev" not in deployed.server.process.args:
        assert under_way.describe(outputs=True).nodes["node"].output == pid


def test_no_descriptor_and_no_defect_is_left_of_several_replacements(deployed: Deployment) -> None:
    deployed.wear_out()
    assert deployed.start("quick").result(timeout=TIMEOUT)
    before = deployed.descriptors()
    for _ in range(3):
        deployed.wear_out()
        assert deployed.start("quick").result(timeout=TIMEOUT)
    assert eventually(lambda: deployed.descriptors() <= before + 2), os.listdir(f"/proc/{deployed.pid}/fd")
    assert deployed.client.driver.run(doctor_module.examine_all(deployed.client.deployment)) == []
    deployed.server.signal(signal.SIGTERM)
    assert deployed.server.ends() == 0, deployed.server.printed[-3000:]
