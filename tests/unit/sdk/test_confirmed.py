"""What `redis.durability` confirms: that the run is where the mark is, not on a primary that has been replaced meanwhile."""

from typing import Any

import pytest

from flowcraft_sdk import NotDurableError
from flowcraft_sdk._operations.deployment import Deployment
from flowcraft_sdk._operations.durability import confirm
from flowcraft_sdk._operations.effects import Batch
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions


def confirmed(record: list[bytes | None], *, gone: bytes | None = None, replicas: int = 1, **about: Any) -> Batch:
    """Confirm on a Redis that replies this; what was asked."""
    deployment = Deployment(
        Keys("t"), max_outage=60.0, max_value=1000, durability="replicas:1", partitions=Partitions("t", 16)
    )
    operation = confirm(deployment, "r1", about.pop("what", "the start"), **about)
    asked = next(operation)
    assert isinstance(asked, Batch)
    with pytest.raises(StopIteration):
        operation.send([b"OK", record, gone, replicas])
    return asked


def test_a_run_that_is_there() -> None:
    asked = confirmed([b"1000", None])
    assert [each.name for each in asked.commands] == ["SET", "HMGET", "ZSCORE", "WAIT"]
    base = Partitions("t", 16).for_run("r1").base
    assert all(str(each.args[0]).startswith(base) for each in asked.commands[:3]), "all on the node that has the run"
    confirmed([b"1000", b"2000"], what="the end", ended="2000")


def test_a_start_that_the_replica_did_not_have() -> None:
    with pytest.raises(
        NotDurableError, match=r"the start of run r1 was lost when a replica took over .* may be repeated"
    ):
        confirmed([None, None])


@pytest.mark.parametrize("end", [None, b"3000"])
def test_an_end_that_the_replica_did_not_have(end: bytes | None) -> None:
    """The run has not ended there, or has ended again."""
    with pytest.raises(NotDurableError, match="the end of run r1 was lost"):
        confirmed([b"1000", end], what="the end", ended="2000")


def test_a_run_that_retention_has_removed_was_kept() -> None:
    confirmed([None, None], gone=b"17")


def test_no_replica_has_it() -> None:
    with pytest.raises(NotDurableError, match="is recorded, but Redis did not confirm"):
        confirmed([b"1000", None], replicas=0)
