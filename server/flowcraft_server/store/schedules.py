"""Publishing of schedules: any worker of the deployment starts what is due, see `worker/background/scheduler.py`."""

from collections.abc import Iterable
from typing import Any

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.schedules.definition import Schedule
from flowcraft_server.store.publish import text


def publish_schedules(redis: Any, partitions: Partitions, schedules: Iterable[Schedule], deployment: str) -> list[str]:
    """Publish the schedules of a deployment, each in the partition of its runs; returns the ids of those that were removed.

    One that was there keeps its state: what it has started, whether it is paused, which of its ticks were dealt with. What the
    deployment does not have any more is removed; schedules of others that share its name stay.

    Args:
        deployment: `host:file`; copies of a deployment have the same file.
    """
    by_partition: dict[Keys, list[tuple[str, str, str, bool]]] = {keys: [] for keys in partitions.all}
    for schedule in schedules:
        entry = (schedule.id, schedule.to_json(), schedule.when, schedule.paused)
        by_partition[partitions.for_run(schedule.id)].append(entry)
    removed: list[str] = []
    for keys, entries in by_partition.items():
        call = scripts.publish_schedules(keys, deployment=deployment, schedules=entries)
        reply = redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)
        removed += [text(name) for name in reply]
    return removed
