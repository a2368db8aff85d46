"""Which partition a run lies in, and that a deployment of one partition has the keys it always had."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft_sdk._operations.deployment import Deployment, partitions_of
from flowcraft_sdk._operations.effects import Batch, command, replies_of, together
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.context_input import check_run_id, id_below
from flowcraft_sdk.protocol.keys import PROTOCOL_VERSION, Keys
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS, Partitions, root_of

RUN_IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True)


def crc16(data: bytes) -> int:
    """CRC16/XMODEM bit by bit, as the specification of Redis Cluster has it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def test_the_sum_is_that_of_redis_cluster() -> None:
    assert crc16(b"123456789") == 0x31C3
    partitions = Partitions("n", 16)
    assert partitions.for_run("123456789") is partitions.all[0x31C3 % 16]


@given(RUN_IDS, st.integers(2, 64), st.lists(st.integers(1, 10**6), max_size=5))
def test_a_run_lies_with_all_its_children_where_the_id_of_its_root_says(
    run_id: str, count: int, way: list[int]
) -> None:
    partitions = Partitions("n", count)
    child = "~".join([run_id, *map(str, way)])
    assert root_of(child) == run_id
    assert partitions.for_run(child) is partitions.for_run(run_id) is partitions.all[crc16(run_id.encode()) % count]
    assert partitions.for_run(id_below(child)) is partitions.for_run(run_id)


@given(RUN_IDS)
def test_with_one_partition_all_names_are_those_they_always_were(run_id: str) -> None:
    keys = Partitions("shop").for_run(run_id)
    assert keys == Keys("shop")
    assert keys.run(run_id) == f"fc:{{shop.0}}:run:{run_id}"
    assert (keys.leases, keys.timers, keys.blueprints) == (
        "fc:{shop.0}:leases", "fc:{shop.0}:timers", "fc:{shop.0}:blueprints"
    )  # fmt: skip
    assert scripts.cancel(keys, run_id=run_id, reason="", grace_ms=0).keys == ("fc:{shop.0}:clock",)


def test_every_key_of_a_partition_has_its_hash_tag() -> None:
    for number, keys in enumerate(Partitions("shop", 3).all):
        assert keys.base == f"fc:{{shop.{number}}}:"
        call = scripts.cancel(keys, run_id="r", reason="", grace_ms=0)
        assert call.keys == (f"fc:{{shop.{number}}}:clock", f"fc:{{shop.{number}}}:wake")


@pytest.mark.parametrize("count", [0, -1, MOST_PARTITIONS + 1])
def test_there_are_not_none_and_not_too_many(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {MOST_PARTITIONS} partitions, got {count}"):
        Partitions("n", count)


def known(deployment: Deployment, spoken: str | None, field: str | None) -> Partitions:
    operation = partitions_of(deployment)
    step = next(operation)
    assert isinstance(step, Batch)
    with pytest.raises(StopIteration) as ended:
        operation.send([spoken, field])
    found: Partitions = ended.value.value
    return found


def deployment(**more: Any) -> Deployment:
    return Deployment(Keys("n"), 1.0, 1000, **more)


def test_a_client_learns_the_number_from_the_deployments_record() -> None:
    some = deployment()
    assert known(some, PROTOCOL_VERSION, "16").count == 16
    assert some.partitions is not None and some.protocol_checked
    assert known(deployment(), PROTOCOL_VERSION, None).count == 1, "of a release before there was the record"


def test_a_deployment_that_is_not_published_yet_is_looked_at_again() -> None:
    some = deployment()
    assert known(some, None, None).count == 1
    assert some.partitions is None


def test_a_client_that_expects_another_number_is_refused() -> None:
    operation = partitions_of(deployment(expected_partitions=4))
    next(operation)
    with pytest.raises(ConfigurationError, match="lie in 16 partitions, this client expects 4: leave `partitions` out"):
        operation.send([PROTOCOL_VERSION, "16"])
    assert known(deployment(expected_partitions=16), PROTOCOL_VERSION, "16").count == 16


def test_the_id_of_a_run_below_another_one() -> None:
    assert check_run_id("root~invoice", "root~3~1") == "root~invoice"
    for given_id in ("other~invoice", "root~replay"):
        with pytest.raises(ConfigurationError, match="the id of a run below root~3 is root~NAME"):
            check_run_id(given_id, "root~3")
    for given_id in ("root~7", "root~a~b", "root~"):
        with pytest.raises(ConfigurationError, match="a run id is"):
            check_run_id(given_id, "root")
    with pytest.raises(ConfigurationError, match="a run id is"):
        check_run_id("root~invoice")


def test_groups_of_commands_are_each_atomic_in_one_round_trip() -> None:
    one, two = (command("ZCARD", "a"), command("ZCARD", "b")), (command("ZCARD", "c"), command("ZCARD", "d"))
    assert together(one) == Batch(one, atomic=True)
    assert together(one[:1]) == Batch(one[:1])
    assert together(one[:1], two[:1]) == Batch((one[0], two[0]))
    batch = together(one, two)
    assert [part.name for part in batch.commands] == ["MULTI", "ZCARD", "ZCARD", "EXEC"] * 2 and not batch.atomic
    assert replies_of([one, two], ["OK", "QUEUED", "QUEUED", [1, 2], "OK", "QUEUED", "QUEUED", [3, 4]]) == [
        [1, 2],
        [3, 4],
    ]
    assert replies_of([one], [1, 2]) == [[1, 2]]
    assert replies_of([one[:1], two[:1]], [1, 3]) == [[1], [3]]
