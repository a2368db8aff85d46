"""Listing runs, blueprints and workers: pages over the indexes, never payloads."""

from collections.abc import Iterable
from datetime import datetime

from flowcraft_sdk.operations import WORKER_FRESH, Deployment, plan_doc
from flowcraft_sdk.protocol.run_record import SUMMARY_FIELDS, RunRecord, moment
from flowcraft_sdk.records import BlueprintInfo, RunStatus, RunSummary, WorkerInfo
from flowcraft_sdk.steps import Operation, command

INDEXED = 200
"""Index entries looked at in one step."""


class Filter:
    """Which runs are wanted. The narrowest index is read, the rest is checked on each run."""

    def __init__(
        self,
        blueprint_id: str | None,
        status: RunStatus | Iterable[RunStatus] | None,
        tag: str | None,
        parent: str | None,
        after: datetime | None,
        before: datetime | None,
    ) -> None:
        self.blueprint_id = blueprint_id
        self.statuses = None if status is None else {status} if isinstance(status, str) else set(status)
        self.tag = tag
        self.parent = parent
        self.low = "-inf" if after is None else str(int(after.timestamp() * 1000))
        self.high = "+inf" if before is None else f"({int(before.timestamp() * 1000)}"

    def index(self, deployment: Deployment) -> str:
        """The index to read."""
        keys = deployment.keys
        if self.tag is not None:
            return keys.index_tag(self.tag)
        if self.statuses is not None and len(self.statuses) == 1:
            return keys.index_status(next(iter(self.statuses)))
        if self.blueprint_id is not None:
            return keys.index_blueprint(self.blueprint_id)
        return keys.index_all

    def wants(self, run: RunSummary) -> bool:
        """Whether a run passes everything that the index does not settle."""
        return (
            (self.blueprint_id is None or run.blueprint_id == self.blueprint_id)
            and (self.statuses is None or run.status in self.statuses)
            and (self.tag is None or self.tag in run.tags)
            and (self.parent is None or run.parent_run_id == self.parent)
        )


def run_page(deployment: Deployment, wanted: Filter, offset: int) -> Operation[tuple[list[RunSummary], int]]:
    """Runs of one slice of the index, newest first, and the next offset (-1: that was the last)."""
    ids = yield command("ZREVRANGEBYSCORE", wanted.index(deployment), wanted.high, wanted.low, "LIMIT", offset, INDEXED)
    found = []
    for raw in ids:
        run_id = raw.decode()
        values = yield command("HMGET", deployment.keys.run(run_id), *SUMMARY_FIELDS)
        fields = {k: v.decode() for k, v in zip(SUMMARY_FIELDS, values, strict=True) if v is not None}
        if "st" not in fields:
            continue  # removed by retention while we were listing
        run = RunRecord(run_id, fields).summary()
        if wanted.wants(run):
            found.append(run)
    return found, offset + len(ids) if len(ids) == INDEXED else -1


def count_runs(deployment: Deployment, wanted: Filter) -> Operation[int]:
    """How many runs there are; from the index alone where one filter is given."""
    given = [wanted.blueprint_id, wanted.tag, wanted.statuses]
    if sum(part is not None for part in given) <= 1 and (wanted.statuses is None or len(wanted.statuses) == 1):
        count: int = yield command("ZCOUNT", wanted.index(deployment), wanted.low, wanted.high)
        return count
    count, offset = 0, 0
    while offset >= 0:
        page, offset = yield from run_page(deployment, wanted, offset)
        count += len(page)
    return count


def blueprints(deployment: Deployment) -> Operation[list[BlueprintInfo]]:
    """Published blueprints by id."""
    reply = yield command("HGETALL", deployment.keys.blueprints)
    found = []
    for name, plan_hash in sorted(reply.items()):
        doc = (yield from plan_doc(deployment, plan_hash.decode())) or {}
        found.append(
            BlueprintInfo(
                id=name.decode(),
                version=plan_hash.decode(),
                description=doc.get("description", ""),
                node_count=len(doc.get("nodes", ())),
                inputs=doc.get("inputs"),
            )
        )
    return found


def workers(deployment: Deployment) -> Operation[list[WorkerInfo]]:
    """Workers that were heard of lately."""
    keys = deployment.keys
    now = yield command("TIME")
    offset = yield command("GET", keys.clock)
    since = int(now[0]) * 1000 + int(offset or 0) - int(WORKER_FRESH * 1000)
    seen = yield command("ZRANGEBYSCORE", keys.workers, since, "+inf", "WITHSCORES")
    pairs = seen if seen and isinstance(seen[0], tuple | list) else list(zip(seen[::2], seen[1::2], strict=False))
    found = []
    for name, score in pairs:
        raw = yield command("HGETALL", keys.worker(name.decode()))
        about = {key.decode(): value.decode() for key, value in raw.items()}
        found.append(
            WorkerInfo(
                id=name.decode(),
                host=about.get("host", ""),
                pid=int(about.get("pid", 0)),
                concurrency=int(about.get("concurrency", 0)),
                last_seen=moment(float(score)),
            )
        )
    return found
