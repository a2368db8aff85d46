"""Runs on Redis Cluster: spread over its nodes, through failovers and while slots move."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.local.cluster import LocalCluster
from deploy.local.servers import Servers, free_port
from flowcraft_sdk import AsyncClient, BackendUnavailableError, Client
from flowcraft_sdk._transport.cluster import slot_of
from flowcraft_server.service.redis_checks import find_problems, wait_for_redis, warnings_about
from flowcraft_server.service.redis_report import describe_redis, recommendations
from flowcraft_server.testing import TestEnvironment

TIMEOUT = 60
PARTITIONS = 16
CHAIN = {
    "id": "chain",
    "nodes": [{"id": name, "uses": "count"} for name in ("a", "b", "c")],
    "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}],
}
PARENT = {
    "id": "parent",
    "nodes": [{"id": "child", "uses": "subflow", "params": {"blueprintId": "chain"}}],
    "edges": [],
}
WAITS = {"id": "waits", "nodes": [{"id": "approval", "uses": "wait"}], "edges": []}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster"), "s3cret") as cluster:
        yield cluster


class Counter:
    """A handler that counts its calls by run and node."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def __call__(self, ctx: object) -> str:
        with self._lock:
            key = (ctx.run_id, ctx.node_id)  # type: ignore[attr-defined]
            self.calls[key] = self.calls.get(key, 0) + 1
        return "done"


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def partitions() -> int:
    return PARTITIONS


@pytest.fixture
def env(cluster: LocalCluster, counter: Counter, partitions: int) -> Iterator[TestEnvironment]:
    with TestEnvironment(
        blueprints={"chain": CHAIN, "parent": PARENT, "waits": WAITS},
        handlers={"count": counter},
        redis_url=cluster.url,
        partitions=partitions,
        workers=2,
    ) as made:
        yield made


def test_runs_are_spread_over_the_nodes(env: TestEnvironment, cluster: LocalCluster) -> None:
    handles = [env.client.start("parent") for _ in range(40)]
    for handle in handles:
        assert handle.result(timeout=TIMEOUT)["child"] == "done"
    nodes = {cluster.primary_of(slot_of(env.partitions.for_run(handle.run_id).base)) for handle in handles}
    assert len(nodes) == 3
    assert len({run.run_id for run in env.client.list_runs(blueprint_id="parent")}) == 40
    assert env.client.admin.examine() == []


def test_clients_of_asyncio(env: TestEnvironment, cluster: LocalCluster) -> None:
    async def use() -> None:
        async with AsyncClient(cluster.url, namespace=env.namespace) as client:
            handles = [await client.start("waits") for _ in range(5)]
            for handle in handles:
                await handle.signal("approval", {"by": "x"}, buffer=True)
            for handle in handles:
                assert (await handle.result(timeout=TIMEOUT))["approval"] == {"by": "x"}

    asyncio.run(use())


def test_slots_that_move_under_load_are_seen_by_no_client(
    env: TestEnvironment, cluster: LocalCluster, counter: Counter
) -> None:
    slots = sorted({slot_of(keys.base) for keys in env.partitions.all})
    stop = threading.Event()
    handles, errors = [], []

    def load() -> None:
        while not stop.is_set():
            try:
                handles.append(env.client.start("chain"))
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        primaries = [node.port for node in cluster.nodes() if node.is_primary]
        for number, slot in enumerate(slots):
            cluster.move_slots([slot], primaries[number % len(primaries)])
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert handles
    for handle in handles:
        assert handle.result(timeout=TIMEOUT)["c"] == "done"
    assert set(counter.calls.values()) == {1}
    assert env.client.admin.examine() == []


# A script declares one key with one partition, and two with several: nodes treat these differently.
@pytest.mark.parametrize("partitions", [1, PARTITIONS])
def test_nothing_is_written_on_the_node_that_a_slot_is_on_its_way_to(
    env: TestEnvironment, cluster: LocalCluster
) -> None:
    slot = slot_of(env.partitions.for_run("on-its-way").base)
    primaries = {node.port: node.id for node in cluster.nodes() if node.is_primary}
    source = cluster.primary_of(slot)
    target = next(port for port in primaries if port != source)
    with cluster.connect(source) as giving, cluster.connect(target) as receiving:
        receiving.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", primaries[source])
        giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", primaries[target])
        thread = threading.Thread(target=env.client.start, args=("chain",), kwargs={"run_id": "on-its-way"})
        thread.start()
        thread.join(0.4)
        assert thread.is_alive(), "it waits for the slot"
        assert receiving.execute_command("CLUSTER COUNTKEYSINSLOT", slot) == 0
    cluster.move_slots([slot], target)
    thread.join(TIMEOUT)
    assert env.client.get_handle("on-its-way").result(timeout=TIMEOUT)["c"] == "done"
    assert env.client.admin.examine() == []


def test_runs_go_on_when_a_primary_is_lost(env: TestEnvironment, cluster: LocalCluster) -> None:
    handles = [env.client.start("chain") for _ in range(100)]
    killed = cluster.primary_of(slot_of(env.partitions.all[0].base))
    cluster.fail_over(killed)
    try:
        later = []
        for _ in range(20):
            later.append(env.client.start("parent"))
        for handle in later:
            assert handle.result(timeout=TIMEOUT)["child"] == "done"
        for handle in handles:
            handle.wait(timeout=TIMEOUT)
        assert env.client.admin.examine() == []
    finally:
        cluster.start(killed)
        cluster.wait_until_whole()


def test_a_server_that_is_in_no_cluster_is_told(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        port = free_port()
        servers.start(port)
        wanted = pytest.raises(BackendUnavailableError, match="in no cluster; its address is redis://")
        with Client(f"redis+cluster://127.0.0.1:{port}") as client, wanted:
            client.ping()


def test_what_is_dangerous_about_a_cluster_is_warned_of(cluster: LocalCluster) -> None:
    client = wait_for_redis(cluster.url, 5)
    assert find_problems(client, cluster.url) == []
    (few,) = warnings_about(client, cluster.url, 1)
    assert "3 primaries, and redis.partitions is 1" in few
    assert warnings_about(client, cluster.url, PARTITIONS) == []
    line = describe_redis(client, cluster.url, PARTITIONS)
    assert "Cluster of 3 primaries with no slots missing, 16 partitions, 1 replica for each, noeviction" in line
    assert len(list(recommendations(client, cluster.url, "replicas:1"))) == 3


def test_what_a_node_refuses_of_a_command_for_all_is_raised(cluster: LocalCluster) -> None:
    client = wait_for_redis(cluster.url, 5)
    with pytest.raises(redis.exceptions.ResponseError):
        client.config_set("no-such-setting", "1")
