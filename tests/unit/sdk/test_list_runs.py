"""Pages of runs over indexes with many runs of the same millisecond: each run once, the newest first."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flowcraft_sdk._operations.deployment import Deployment
from flowcraft_sdk._operations.effects import Batch, Yield
from flowcraft_sdk._operations.list_runs import Filter, count_runs, list_runs
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.run_record import SUMMARY_FIELDS
from flowcraft_sdk.records import RunStatus

KEYS = Keys("t")
STATUSES = [RunStatus.QUEUED, RunStatus.FAILED, RunStatus.CANCELLED]
RUNS = st.dictionaries(
    st.text("abcxyz019", min_size=1, max_size=3), st.tuples(st.integers(1, 5), st.sampled_from(STATUSES)), max_size=40
)


def run(operation: Any, runs: dict[str, tuple[int, RunStatus]]) -> tuple[Any, list[Any]]:
    """Answer an operation as Redis would, with these runs: id -> (created, status)."""

    def index(key: str) -> dict[str, int]:
        return {r: created for r, (created, status) in runs.items() if key == KEYS.index_status(status)}

    def reply(name: str, args: tuple[Any, ...]) -> Any:
        if name == "ZCARD":
            return len(index(args[0]))
        if name == "HMGET":
            created, status = runs[args[0].removeprefix(KEYS.run(""))]
            return [b"b", b"h", status.encode(), str(created).encode(), *[None] * (len(SUMMARY_FIELDS) - 4)]
        high = float("inf") if args[1] == "+inf" else float(args[1])
        found = sorted(((s, m) for m, s in index(args[0]).items() if s <= high), reverse=True)
        return [(member.encode(), float(score)) for score, member in found[: args[5 + 1]]]

    emitted, value = [], None
    try:
        step = operation.send(None)
        while True:
            if isinstance(step, Yield):
                emitted.append(step.item)
                step = operation.send(None)
            else:
                assert isinstance(step, Batch)
                step = operation.send([reply(part.name, part.args) for part in step.commands])
    except StopIteration as end:
        value = end.value
    return value, emitted


@given(RUNS, st.integers(1, 7), st.sets(st.sampled_from(STATUSES)) | st.none(), st.integers(0, 50) | st.none())
def test_each_wanted_run_once_and_the_newest_first(
    runs: dict[str, tuple[int, RunStatus]], page_size: int, statuses: set[RunStatus] | None, limit: int | None
) -> None:
    wanted = Filter(statuses=None if statuses is None else frozenset(statuses))
    deployment = Deployment(KEYS, 0, 0, partitions=Partitions("t"))
    listed = [found.run_id for found in run(list_runs(deployment, wanted, limit, page_size), runs)[1]]
    chosen = [(created, r) for r, (created, status) in runs.items() if statuses is None or status in statuses]
    assert listed == [r for _, r in sorted(chosen, reverse=True)][:limit]
    assert run(count_runs(deployment, wanted), runs)[0] == len(chosen)
    by_hand = Filter(blueprint_id="b", statuses=wanted.statuses, parent=None)
    if statuses is not None:
        assert run(count_runs(deployment, by_hand, page_size), runs)[0] == len(chosen)
