"""What handlers did is counted by threads that take no lock for it; nothing is lost, whenever it is fetched."""

import threading
from collections import Counter

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.work_counts import observed, split
from flowcraft_server.worker.activity import TOGETHER, Activity

HOME: Keys = Partitions("t", 1).home
EACH = 3 * TOGETHER + 7


def fetched(activity: Activity) -> Counter[str]:
    call = activity.flush(HOME, "w1")
    activity.confirm()
    if call is None:
        return Counter()
    words = [word if isinstance(word, str) else str(word) for word in call.args]
    first = next(index for index, word in enumerate(words) if " " in word)
    return Counter({field: int(count) for field, count in zip(words[first::2], words[first + 1 :: 2], strict=True)})


def test_threads_count_while_counts_are_fetched() -> None:
    activity = Activity()

    def work() -> None:
        for number in range(EACH):
            activity.delayed("a", number % 4)
            activity.completed("a", 0.001)
        activity.ended("a", 0.5, "retried")
        activity.lost_lease()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    counts: Counter[str] = Counter()
    while any(thread.is_alive() for thread in threads):
        counts += fetched(activity)
    counts += fetched(activity)
    assert fetched(activity) == {}
    rows = split({field: str(count) for field, count in counts.items()})
    assert rows["attempts", "a"] == {"completed": 4 * EACH, "retried": 4}
    assert rows["leases-lost", ""] == {"": 4}
    took, delays = observed(rows["took", "a"]), observed(rows["delay", "a"])
    assert took.microseconds == 4 * EACH * 1000 + 4 * 500_000
    assert took.buckets == {10: 4 * EACH, 19: 4}
    assert sum(delays.buckets.values()) == 4 * EACH
    assert set(delays.buckets) == {0, 10, 11, 12}


def test_counts_are_the_same_until_they_are_confirmed() -> None:
    activity = Activity()
    activity.completed("a", 2.0)
    first = activity.flush(HOME, "w1")
    activity.completed("b", 2.0)
    assert activity.flush(HOME, "w1") == first
    activity.confirm()
    assert set(fetched(activity)) == {"took sum b", "took 21 b", "attempts completed b"}
