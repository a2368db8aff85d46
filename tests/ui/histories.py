"""Long histories, made without the time that their runs would take."""

from typing import Any

FAILS = 1_000
"""Each of so many items has failed."""


def add_items(env: Any, run_id: str, items: range) -> None:
    """Add the events of items of the node `each` to a run, in the form in which scripts write them.

    Args:
        env: The environment of the run.
        run_id: The run.
        items: Their numbers.
    """
    keys, redis = env.partitions.for_run(run_id), env.link.redis
    with redis.pipeline(transaction=False) as pipe:
        for number in items:
            begin, failed = 40 + number // 2, number % FAILS == FAILS - 1
            kind, rest = ("f", '1|{"t":"ValueError","m":"it failed"}') if failed else ("c", "")
            end = begin + 30 + number % 40
            pipe.rpush(keys.events(run_id), f"s|{begin}|each[{number}]|1|w1", f"{kind}|{end}|each[{number}]|{rest}")
            if number % 1000 == 0:
                pipe.execute()
        pipe.execute()


def until_waiting(run: Any) -> None:
    """Wait until a run waits for an answer."""
    for event in run.events(timeout=20):
        if event.type == "node_waiting":
            return
