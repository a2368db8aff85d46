"""What a worker knows of several partitions: which have ready nodes, which it is at home in, what each of them keeps."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.worker import ready_partitions
from flowcraft_server.worker.background.retention import retention_share
from flowcraft_server.worker.grouped_attempts import GroupedAttempts
from flowcraft_server.worker.home_partitions import HOMES, ranks_of
from flowcraft_server.worker.ready_partitions import MOST_ASKED_AT_ONCE, ReadyPartitions
from flowcraft_server.worker.settings import Retention
from flowcraft_server.worker.wake_ups import ANY, LocalWakeUps

PARTITIONS = Partitions("n", 16)
A, B, C = PARTITIONS.all[:3]


def test_each_partition_gets_its_turn() -> None:
    ready = ReadyPartitions()
    assert not ready and ready.shares(4) == []
    ready.note(A, B, C)
    assert [(share.keys, share.asked) for share in ready.shares(2)] == [(A, 1), (B, 1)]
    assert [(share.keys, share.asked) for share in ready.shares(5)] == [(C, 2), (A, 2), (B, 1)]
    assert len(ready) == 3


def test_not_more_than_some_are_asked_at_once() -> None:
    ready = ReadyPartitions()
    ready.note(*PARTITIONS.all)
    shares = ready.shares(128)
    assert len(shares) == MOST_ASKED_AT_ONCE and sum(share.asked for share in shares) == 128


def test_of_quick_nodes_few_partitions_give_many_each_until_their_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(ready_partitions, "clock", lambda: now)
    ready = ReadyPartitions()
    ready.note(A, B, C)
    assert [(share.keys, share.asked) for share in ready.shares(64, together=True)] == [(A, 32), (B, 32)]
    assert [share.keys for share in ready.shares(5, together=True)] == [A], "not a third one for a few nodes"
    assert not ready.turn_is_over(A) and ready.turn_is_over(C)
    now += 2 * ready_partitions.TURN_SECONDS
    assert ready.turn_is_over(A)
    assert [share.keys for share in ready.shares(40, together=True)] == [C], "its turn has come"
    ready.claimed(ready.shares(1, together=True)[0], 0)
    assert [share.keys for share in ready.shares(1, together=True)] == [B]


def test_the_only_partition_has_its_turn_for_good() -> None:
    ready = ReadyPartitions()
    ready.note(A)
    assert not ready.turn_is_over(A)


def attempts(*names: str) -> list[Any]:
    return [SimpleNamespace(claim=SimpleNamespace(run_id=name)) for name in names]


def test_what_waits_is_taken_by_partition_and_each_has_its_turn() -> None:
    waiting = GroupedAttempts(lambda run_id: {"a": A, "b": B}[run_id[0]])
    waiting.extend(attempts("a1", "b1", "a2", "b2"))
    taken = [waiting.popleft().claim.run_id]
    waiting.extend(attempts("a3"))
    while waiting:
        taken.append(waiting.popleft().claim.run_id)
    assert taken == ["a1", "a2", "b1", "b2", "a3"], "what comes during a turn waits for the next one"
    assert list(waiting) == []
    with pytest.raises(IndexError):
        waiting.popleft()


def test_a_partition_that_gives_less_than_it_is_asked_for_has_no_more() -> None:
    ready = ReadyPartitions()
    ready.note(A, B)
    first, second = ready.shares(4)
    ready.claimed(first, 2)
    ready.claimed(second, 1)
    assert A in ready and B not in ready
    assert ready.has_others(B) and not ready.has_others(A)


def test_what_was_noted_since_it_was_asked_is_not_forgotten() -> None:
    ready = ReadyPartitions()
    ready.note(A)
    (share,) = ready.shares(1)
    ready.note(A)  # the notice of a node that became ready after the claim, and before its reply is handled
    ready.claimed(share, 0)
    assert A in ready


def test_a_count_of_none_is_no_news() -> None:
    ready = ReadyPartitions()
    ready.counted(A, 0)
    assert not ready
    ready.counted(A, 3)
    assert A in ready
    ready.counted(A, 0)
    assert A in ready, "a claim finds it out"


@given(st.sets(st.text("abcdef0123456789", min_size=6, max_size=6), min_size=1, max_size=12))
def test_every_partition_is_home_to_some_workers(workers: set[str]) -> None:
    ranks = {worker: ranks_of(worker, workers, 16) for worker in workers}
    for number in range(16):
        assert sorted(ranks[worker][number] for worker in workers) == list(range(len(workers)))


def test_a_worker_that_goes_leaves_the_others_homes_as_they_are() -> None:
    workers = {f"w{number}" for number in range(8)}
    before = {worker: ranks_of(worker, workers, 64) for worker in workers}
    after = {worker: ranks_of(worker, workers - {"w3"}, 64) for worker in workers - {"w3"}}
    for number in range(64):
        kept = [worker for worker in after if before[worker][number] < HOMES]
        assert all(after[worker][number] < HOMES for worker in kept)
    shares = [sum(rank == 0 for rank in before[worker]) for worker in workers]
    assert max(shares) <= 20, "64 partitions are spread over 8 workers"


def test_a_worker_alone_comes_first_everywhere() -> None:
    assert ranks_of("w", ["w"], 4) == ranks_of("w", [], 4) == [0, 0, 0, 0]


def test_a_notice_wakes_as_many_threads_as_there_are_nodes() -> None:
    wakes, woken = LocalWakeUps(), []
    threads = [threading.Thread(target=lambda: woken.append(wakes.wait(10))) for _ in range(3)]
    for thread in threads:
        thread.start()
    wakes.notify(3)
    for thread in threads:
        thread.join(10)
    assert woken == [ANY] * 3


def test_a_notice_waits_for_a_thread() -> None:
    wakes = LocalWakeUps()
    wakes.notify(1)
    assert wakes.wait(0.0) == ANY
    assert wakes.wait(0.0) is None
    wakes.pass_on()  # to no thread that sleeps
    assert wakes.wait(0.0) is None


def test_closing_wakes_all_for_good() -> None:
    wakes = LocalWakeUps()
    thread = threading.Thread(target=wakes.wait, args=(10,))
    thread.start()
    wakes.close()
    thread.join(10)
    assert not thread.is_alive()
    wakes.notify(1)
    assert wakes.wait(60) is None


def test_budgets_are_shared_out() -> None:
    whole = Retention(bytes=1000, tombstone_count=10)
    share = retention_share(whole, 16)
    assert (share.bytes, share.tombstone_count) == (63, 1)
    assert [rule.count for rule in share.keep] == [625, 625, 625]
    assert [rule.age_ms for rule in share.keep] == [rule.age_ms for rule in whole.keep]
    assert retention_share(whole, 1) == whole
