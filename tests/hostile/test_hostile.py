"""Handlers that misbehave, one after the other in one worker process: each has the outcome that a user would call right, and the
next functions, coroutines and other runs of the process are untouched.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from flowcraft_sdk import Client, Handle
from flowcraft_sdk._operations import doctor as doctor_module
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing.environment import read_blueprints
from tests.acceptance.server_program import Server, eventually
from tests.hostile.handlers import HOSTILE, INNOCENT, KILLERS, Expected

TIMEOUT = 30.0
NAMESPACE = "hostile"
FILE = """
name: hostile
handlers:
{handlers}
redis: {{url: "${{REDIS_URL}}"}}
logging: {{level: info, format: json}}
executor: {{workers: 4, lease: 2s, maxCrashes: 2, abandonedThreads: 50}}
"""


@dataclass
class Hostile:
    """A deployment with one worker process, in which hostile and innocent handlers run side by side."""

    folder: Path
    store: EmbeddedStore
    client: Client
    server: Server
    under_way: Handle[Any]

    def innocents(self) -> list[dict[str, Any]]:
        """What three functions and three coroutines find that run now."""
        handles = [self.client.start(name) for name in ("innocent", "innocent_coroutine") for _ in range(3)]
        return [handle.result(timeout=TIMEOUT)["node"] for handle in handles]


def blueprint(uses: str, config: str = "", params: str = "{}") -> str:
    return f"nodes:\n  node: {{uses: {uses}, inputs: given, params: {params}, config: {{{config}}}}}\n"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    names = [*HOSTILE, *INNOCENT, *KILLERS, "ends_its_thread_natively"]
    handlers = "\n".join(f"  {name}: tests.hostile.handlers:{name}" for name in names)
    (folder / "flowcraft.yaml").write_text(FILE.format(handlers=handlers))
    texts = {name: blueprint(name, expected.config) for name, (_, expected) in HOSTILE.items()}
    texts |= {name: blueprint(name) for name in ("innocent", "innocent_coroutine", "ends_its_thread_natively")}
    texts["patient"] = blueprint("patient", params=f'{{go: "{folder}/go"}}')
    with EmbeddedStore(folder / "store") as store:
        connection = redis.Redis.from_url(store.url)
        publish_settings(connection, Partitions(NAMESPACE), history=True, max_events=20_000, cancel_grace_ms=1000)
        publish_blueprints(connection, Partitions(NAMESPACE), list(read_blueprints(texts)))
        environ = {"REDIS_URL": store.url, "HOSTILE_TESTS": "1"}
        server = Server(folder, "worker", environ=environ)
        server.wait_for("serving 'hostile'")
        with Client(store.url, namespace=NAMESPACE) as client:
            under_way = client.start("patient")
            found = Hostile(folder, store, client, server, under_way)
            found.innocents()
            yield found
            (folder / "go").touch()
            assert under_way.result(timeout=TIMEOUT)["node"] == "waited"
            defects = client.driver.run(doctor_module.examine_all(client.deployment))
            assert [f"{defect.kind}: {defect.run_id}" for defect in defects] == []
        server.process.terminate()
        assert server.ends() == 0, server.printed[-3000:]
        connection.close()


def check(run: Handle[Any], expected: Expected) -> None:
    run.wait(timeout=TIMEOUT)
    snapshot = run.describe(outputs=True)
    assert snapshot.status == expected.status, snapshot.failures
    if expected.failure:
        (failure,) = snapshot.failures
        assert failure.type.endswith(expected.failure), failure
        assert expected.message in failure.message
    elif not expected.any_output:
        assert snapshot.nodes["node"].output == expected.output


def untouched(hostile: Hostile) -> None:
    for found in hostile.innocents():
        assert found == {
            "pid": hostile.server.process.pid,
            "folder": str(hostile.folder),
            "path": True,
            "interval": 0.005,
            "depth": 500,
            "timeout": None,
            "collects": True,
            "year": True,
            "streams": True,
            **({"slept": True} if "slept" in found else {}),
        }
    assert not hostile.under_way.done()
    assert hostile.server.process.poll() is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_handler_that_misbehaves(hostile: Hostile, name: str) -> None:
    run = hostile.client.start(name, {"given": [1, 2, 3]})
    check(run, HOSTILE[name][1])
    untouched(hostile)


def test_a_thread_that_native_code_ends_is_replaced_and_its_node_run_again(hostile: Hostile) -> None:
    for _ in range(5):  # one more than there are threads
        run = hostile.client.start("ends_its_thread_natively")
        check(run, Expected())
        assert "a worker thread died" in hostile.server.printed
    untouched(hostile)


def test_the_log_still_works_after_all_of_them(hostile: Hostile) -> None:
    marked = hostile.client.start("innocent", run_id=f"marked-{os.getpid()}")
    marked.result(timeout=TIMEOUT)
    assert eventually(lambda: f"innocent {marked.run_id}" in hostile.server.printed), hostile.server.printed[-2000:]
