"""Limits over 16 partitions: shared out, never more than the limit, and all of it is used."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_sdk import NodeContext
from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment

FILE = """
handlers:
  few: {path: "shared_limit_handlers:answer", maxConcurrent: 3}
  slow: {path: "shared_limit_handlers:answer", rateLimit: 100/s}
blueprints: {dirs: [blueprints]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "shared_limit_handlers.py").write_text("def answer(ctx):\n    return 1\n")
    (folder / "flowcraft.yaml").write_text(FILE)
    (folder / "blueprints").mkdir()
    for name in ("few", "slow"):
        (folder / "blueprints" / f"{name}.yaml").write_text(f"nodes: {{a: {{uses: {name}}}}}")
    return folder


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWCRAFT_TEST_PARTITIONS", "16")


@pytest.fixture
def env(folder: Path) -> Iterator[TestEnvironment]:
    with TestEnvironment.from_config(folder / "flowcraft.yaml", workers=0) as env:
        yield env
        assert env.client.admin.examine() == []


def test_no_more_run_at_once_over_all_partitions(folder: Path) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work(ctx: NodeContext) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1
        return 1

    with TestEnvironment.from_config(folder / "flowcraft.yaml", handlers={"few": work}, workers=2) as env:
        runs = [env.client.start("few", run_id=f"r{number}") for number in range(80)]
        runs += [env.client.start("slow", run_id=f"s{number}") for number in range(80)]
        for run in runs:
            run.result(timeout=30)
        assert 2 <= most[0] <= 3
        assert env.client.admin.examine() == []


Report = list[int]


def reports(env: TestEnvironment, limit: str, numbers: range) -> list[tuple[int, Report]]:
    calls = [scripts.admit(env.partitions.all[number], limit=limit) for number in numbers]
    return [(number, list(map(int, reply))) for number, reply in zip(numbers, env.link.send(calls), strict=True)]


def share(env: TestEnvironment, limit: str, found: list[tuple[int, Report]]) -> dict[int, tuple[int, int, int]]:
    reply = env.link.call(scripts.share_limit(env.keys, limit=limit, reports=found))
    return {
        int(reply[at]): (int(reply[at + 1]), int(reply[at + 2]), int(reply[at + 3])) for at in range(0, len(reply), 4)
    }


def waits(env: TestEnvironment, number: int, count: int, blueprint: str) -> None:
    keys, tried = env.partitions.all[number], 0
    while env.link.redis.zcard(keys.limited(f"handler:{blueprint}")) < count:
        tried += 1
        if env.partitions.for_run(f"n{number}-{tried}") is keys:
            env.client.start(blueprint, run_id=f"n{number}-{tried}")


def test_slots_go_to_another_partition_only_once_they_are_free(env: TestEnvironment) -> None:
    limit, two = "handler:few", range(2)
    waits(env, 0, 5, "few")
    granted = share(env, limit, reports(env, limit, two))
    assert granted[0][1] == 3 and granted[1][1] == 0
    (waiting, held, *_) = env.link.call(scripts.admit(env.keys, limit=limit, granted=granted[0]))
    assert (waiting, held) == (2, 3)
    assert env.link.call(scripts.admit(env.keys, limit=limit, granted=granted[0]))[:2] == [2, 3]  # sent twice

    waits(env, 1, 5, "few")
    stale = reports(env, limit, two)
    asked = share(env, limit, stale)
    assert asked[0][1] in (1, 2) and asked[1][1] == 0, "it holds three: none is free for the other one yet"
    env.link.call(scripts.admit(env.keys, limit=limit, granted=asked[0]))
    assert share(env, limit, stale)[1][1] == 0, "a report of before frees none"
    assert share(env, limit, reports(env, limit, two))[1][1] == 0
    for member in env.link.redis.zrange(env.keys.slots(limit), 0, 1):
        env.client.get_handle(member.decode().partition("|")[0]).cancel(grace=0)
    again = share(env, limit, reports(env, limit, two))
    assert again[1][1] >= 1
    held = sum(report[1] for _, report in reports(env, limit, two))
    assert held + again[1][1] <= 3
    alone = share(env, limit, reports(env, limit, range(2, 3)))  # the others cannot be asked, and keep what they have
    assert held + again[1][1] + alone[2][1] <= 3


def test_tokens_are_granted_once_and_a_lost_grant_is_found_again(env: TestEnvironment) -> None:
    limit, two = "handler:slow", range(2)
    waits(env, 0, 30, "slow")
    waits(env, 1, 10, "slow")
    found = reports(env, limit, two)
    granted = share(env, limit, found)
    assert (granted[0][2], granted[1][2]) == (30, 10)
    again = share(env, limit, found)  # by another worker, before the grant has arrived
    assert (again[0][2], again[1][2]) == (30, 10)
    for number in two:
        keys = env.partitions.all[number]
        reply = env.link.call(scripts.admit(keys, limit=limit, granted=again[number]))
        assert reply[0] == 0
        env.link.call(scripts.admit(keys, limit=limit, granted=granted[number]))
    assert [report[4] for _, report in reports(env, limit, two)] == [0, 0]
