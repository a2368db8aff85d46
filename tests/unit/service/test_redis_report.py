"""What `check` says of a Redis, and what it recommends."""

from collections.abc import Iterator

import pytest
import redis

from deploy.local.sentinel import SentinelDeployment
from deploy.local.servers import free_port, wait_until
from flowcraft_server.service.redis_checks import wait_for_redis
from flowcraft_server.service.redis_report import describe_redis, recommendations


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelDeployment]:
    with SentinelDeployment(tmp_path_factory.mktemp("sentinel")) as deployment:
        yield deployment


def test_what_is_there(deployment: SentinelDeployment) -> None:
    url = deployment.url
    line = describe_redis(wait_for_redis(url, 5), url, 1)
    product, rest = line.split(", ", 1)
    assert product.split()[0] in ("Redis", "Valkey") and product.split()[1][0].isdigit()
    assert rest == "primary behind Sentinel, 1 partition, 1 replica, noeviction, append-only file (everysec)"
    alone = f"redis://127.0.0.1:{deployment.primary}/0"
    assert ", one server, 16 partitions, 1 replica," in describe_redis(wait_for_redis(alone, 5), alone, 16)


def test_a_primary_takes_no_steps_that_no_replica_gets(deployment: SentinelDeployment) -> None:
    url = deployment.url
    client = wait_for_redis(url, 5)
    assert list(recommendations(client, url, "async")) == [], "with one replica it would stop while that one is away"
    (line,) = recommendations(client, url, "replicas:1")
    assert "min-replicas-to-write 1 (redis.durability is replicas:1" in line
    client.config_set("min-replicas-to-write", 1)
    assert list(recommendations(client, url, "replicas:1")) == []
    client.config_set("min-replicas-to-write", 0)


def test_two_replicas_make_it_free(deployment: SentinelDeployment) -> None:
    url = deployment.url
    client = wait_for_redis(url, 5)
    deployment.start(port := free_port(), "--replicaof", "127.0.0.1", str(deployment.primary))
    wait_until(lambda: client.info("replication")["connected_slaves"] == 2, "the second replica does not follow")
    (line,) = recommendations(client, url, "async")
    assert "CONFIG SET min-replicas-to-write 1" in line
    deployment.kill(port)


def test_a_server_that_reports_nothing(deployment: SentinelDeployment) -> None:
    with redis.Redis(port=deployment.primary) as client:
        client.execute_command("ACL", "SETUSER", "mute", "on", ">word", "~*", "+@all", "-info", "-config")
    url = f"redis://mute:word@127.0.0.1:{deployment.primary}/0"
    found = wait_for_redis(url, 5)
    assert describe_redis(found, url, 1) == "a Redis that does not report its version, one server, 1 partition"
    assert list(recommendations(found, url, "replicas:1")) == []
