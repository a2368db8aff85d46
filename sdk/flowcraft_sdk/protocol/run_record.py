"""Reading a run's hash: from Redis fields to records. Pure."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import LONGEST_SPAN
from flowcraft_sdk.protocol.joins import taken_edges
from flowcraft_sdk.protocol.node_kinds import handler_of
from flowcraft_sdk.protocol.paths import OWN, resolve
from flowcraft_sdk.protocol.sources import all_keys, value_of
from flowcraft_sdk.protocol.usage_sums import usage_of
from flowcraft_sdk.records import (
    Abandoned,
    CancelInfo,
    Compensation,
    ItemCounts,
    NodeFailure,
    NodeSnapshot,
    NodeStatus,
    Progress,
    RunSnapshot,
    RunStatus,
    RunSummary,
    WaitPoint,
)
from flowcraft_sdk.records.steps import StepTotals

SUMMARY_FIELDS = ("bp", "plan", "st", "cr", "sr", "en", "tags", "par", "fork", "us", "key", "pl")
LIMITS_OF_MODEL = "the limits of model"
WAITS_FOR_PLACE = "a limit of concurrent runs"
_STATES = {
    "P": NodeStatus.PENDING,
    "R": NodeStatus.READY,
    "L": NodeStatus.RUNNING,
    "T": NodeStatus.RETRYING,
    "W": NodeStatus.WAITING,
    "C": NodeStatus.COMPLETED,
    "F": NodeStatus.FAILED,
    "K": NodeStatus.FAILED,
    "S": NodeStatus.SKIPPED,
    "X": NodeStatus.CANCELLED,
}
_MARKS = {
    "u": NodeStatus.PENDING,
    "c": NodeStatus.COMPLETED,
    "f": NodeStatus.FAILED,
    "x": NodeStatus.CANCELLED,
}
"""What became of a compensation."""


CAUSES = {"cancel": "cancelled", "fail": "failed", "timeout": "timed_out", "node": "node_given_up"}
"""What has become of a parent whose child goes on, by the script's word for why it stopped."""


def node_status(state: str) -> NodeStatus:
    """The state of a node, by the field `n:<instance>`."""
    return _STATES.get(state[:1], NodeStatus.UNKNOWN)


_DONE = {NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED}


# A day inside of what datetimes can hold, so that they can be shown in every time zone.
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def moment(ms: float | str) -> datetime:
    """A time in ms as a datetime in UTC; one that is further off than datetimes go is `EARLIEST` or `LATEST`."""
    seconds = float(ms) / 1000
    try:
        return min(max(datetime.fromtimestamp(seconds, UTC), EARLIEST), LATEST)
    except (OverflowError, ValueError, OSError):
        return EARLIEST if seconds < 0 else LATEST


def _maybe(fields: Mapping[str, str], name: str) -> datetime | None:
    return moment(fields[name]) if fields.get(name) else None


UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError)
"""What reading a field raises that holds something unexpected."""

P = ParamSpec("P")
R = TypeVar("R")


def _reads(method: Callable[P, R]) -> Callable[P, R]:
    @wraps(method)
    def reading(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except UNREADABLE as error:
            raise RunBrokenError(args[0].run_id, f"{type(error).__name__}: {error}") from error  # type: ignore[attr-defined]

    return reading


class RunRecord:
    """A run's hash, all fields as text, and the plain blueprint its plan was made of.

    All that reads it raises RunBrokenError if a field holds what no server writes there.

    Args:
        run_id: the run.
        fields: the whole hash, or at least `SUMMARY_FIELDS` for `summary`.
        doc: the plan's `doc`; needed for everything but `summary`.
    """

    @_reads
    def __init__(self, run_id: str, fields: Mapping[str, str], doc: Mapping[str, Any] | None = None) -> None:
        self.run_id = run_id
        self.fields = fields
        self.doc = doc or {"nodes": [], "edges": []}
        self.created_ms = float(fields["cr"])

    @property
    def status(self) -> RunStatus:
        """The run's state."""
        return RunStatus(self.fields["st"])

    @property
    @_reads
    def time_limit_ms(self) -> int | None:
        """How long the whole run might take when it was started, None for as long as it wants; 100 years at most."""
        if "dl" not in self.fields:
            return None
        deadline = float(self.fields["dl"])
        if not math.isfinite(deadline):
            raise ValueError(f"its deadline is {deadline}")
        return int(max(1.0, min(deadline - self.created_ms, LONGEST_SPAN * 1000)))

    def _common(self) -> dict[str, Any]:
        fields = self.fields
        return {
            "run_id": self.run_id,
            "blueprint_id": fields["bp"],
            "blueprint_version": fields["plan"],
            "status": self.status,
            "created_at": moment(self.created_ms),
            "started_at": _maybe(fields, "sr"),
            "ended_at": _maybe(fields, "en"),
            "tags": tuple(json.loads(fields["tags"])) if fields.get("tags") else (),
            "parent_run_id": fields.get("par"),
            "forked_from": fields.get("fork"),
            "usage": usage_of(fields, "us"),
            "key": fields.get("key"),
            "blocked_by": WAITS_FOR_PLACE if fields.get("pl") == "w" and self.status is RunStatus.QUEUED else None,
        }

    @_reads
    def summary(self) -> RunSummary:
        """The run as it stands in a list."""
        return RunSummary(**self._common())

    @_reads
    def snapshot(self, *, ctx: bool = False, outputs: bool = False) -> RunSnapshot:
        """The whole picture; payloads only when asked for."""
        fields = self.fields
        nodes = {node["id"]: self._node(node["id"], outputs) for node in self.doc["nodes"]}
        for field in fields:
            if field.startswith("n:") and field[2:] not in nodes:  # an item of a batch, or a dynamic node
                nodes[field[2:]] = self._node(field[2:], outputs and "[" not in field)
        graph = [
            nodes[node["id"]]
            for node in self.doc["nodes"]
            if node["id"] not in self._undoing or nodes[node["id"]].status is not NodeStatus.PENDING
        ]
        completed = self.status is RunStatus.COMPLETED
        return RunSnapshot(
            **self._common(),
            deadline=_maybe(fields, "dl"),
            priority=fields.get("pr") or "normal",  # type: ignore[arg-type]
            memo=wire.loads(fields["memo"]) if fields.get("memo") else None,
            nodes=nodes,
            waiting=tuple(self._waiting(nodes)),
            progress=Progress(done=sum(node.status in _DONE for node in graph), total=len(graph)),
            cancel=self._cancel(),
            failures=tuple(self.failures()),
            closing=self._closing(),
            compensations=tuple(self._compensations()),
            children=tuple(self._children()),
            child_nodes=self._children(),
            abandoned_children=tuple(child for child in self._children() if f"ab:{child}" in fields),
            on_parent_cancel="abandon" if "ab" in fields else "cancel",
            abandoned=self._abandoned(),
            ctx=self.context() if ctx else None,
            output=self.result() if outputs and completed else None,
        )

    def _abandoned(self) -> Abandoned | None:
        why, behind, at = self.fields.get("ab", "-").partition("|")
        return Abandoned(cause=CAUSES.get(why, why), at=moment(at)) if behind else None

    def _closing(self) -> RunStatus | None:
        outcome, behind, _ = self.fields.get("cl", "-").partition("|")
        return RunStatus(outcome) if behind and not self.status.is_terminal else None

    def _compensations(self) -> Iterator[Compensation]:
        """The last completed execution comes first."""
        outcome, behind, _ = self.fields.get("cl", "-").partition("|")
        if not behind or outcome == RunStatus.COMPLETED:
            return
        undone_by = {node["id"]: node.get("config", {}).get("compensate", "") for node in self.doc["nodes"]}
        for number in range(int(self.fields.get("cn", 0)), 0, -1):
            mark, _, instance = self.fields[f"co:{number}"].partition("|")
            target = undone_by.get(instance.partition("#")[0].partition("[")[0], "")
            failure = self.fields.get(f"cf:{number}")
            yield Compensation(
                compensates=instance,
                node_id=target,
                status=self._node(target, False).status if mark == "r" else _MARKS[mark],
                error=_failure(target, failure) if failure else None,
            )

    def _node(self, instance_id: str, with_output: bool) -> NodeSnapshot:
        raw = self.fields.get(f"n:{instance_id}")
        if raw is None:
            return NodeSnapshot(status=NodeStatus.PENDING, compensates=self._undoing.get(instance_id))
        letter, attempt, claims, crashes, *rest = _in_full(raw).split("|")
        status = _STATES.get(letter, NodeStatus.UNKNOWN)
        if letter in "PS" and int(claims) > 0:
            status = NodeStatus.COMPLETED  # it ran in an earlier iteration of its loop
        failure = self.fields.get(f"f:{instance_id}")
        progress: list[Any] = (
            wire.loads(self.fields[f"p:{instance_id}"]) if f"p:{instance_id}" in self.fields else [None, ""]
        )
        if status is NodeStatus.COMPLETED and letter in "PS" and len(rest) > 1:
            attempt, began_ms, ended_ms, parked = rest[1].split("/")  # of its last round
            began: datetime | None = moment(self.created_ms + float(began_ms))
            ended: datetime | None = moment(self.created_ms + float(ended_ms))
            waited = float(parked) / 1000
        else:
            began, ended, waited = self._times(instance_id, letter, rest)
        if not int(claims) or not int(attempt):
            began = None  # it ended, or was cancelled, before any worker took it
        if letter in "CKPS" and not int(attempt):
            ended = None  # it ended in another run
        return NodeSnapshot(
            status=status,
            attempts=_attempts_made(letter, int(attempt), int(claims)),
            crashes=int(crashes),
            caught_by_fallback=letter == "K",
            taken_over=status is not NodeStatus.SKIPPED and letter in "CK" and not int(attempt),
            started_at=began,
            ended_at=ended,
            waited=waited,
            worker=rest[1].partition("!")[0] if letter == "L" and len(rest) > 1 else None,
            waiting_for=rest[1] if letter == "W" and len(rest) > 1 else None,
            queue=rest[1].partition("@")[0] if letter == "R" and len(rest) > 1 else None,
            limit=(rest[1].partition("@")[2] or None) if letter == "R" and len(rest) > 1 else None,
            blocked_by=self._waits_for_model(instance_id) if letter == "W" and rest[1:2] == ["model"] else None,
            child_run_id=self._latest_children.get(instance_id),
            items=self._items(instance_id),
            added_by=self._added(instance_id).get("owner"),
            compensates=self._undoing.get(instance_id),
            progress=progress[0],
            message=progress[1],
            usage=usage_of(self.fields, f"us:{instance_id}"),
            error=_failure(instance_id, failure) if failure else None,
            output=self._output(instance_id) if with_output else None,
            step_totals=self._step_totals(instance_id),
        )

    def _waits_for_model(self, instance_id: str) -> str:
        return f"{LIMITS_OF_MODEL} '{wire.loads(self.fields[f'w:{instance_id}'])}'"

    def _step_totals(self, instance_id: str) -> StepTotals | None:
        sizes = self.fields.get(f"sz:{instance_id}")
        if sizes is None:
            return None
        number, bytes_, past, past_bytes = map(int, sizes.split("|"))
        return StepTotals(count=number + past, bytes=bytes_ + past_bytes)

    def _times(self, instance_id: str, letter: str, rest: list[str]) -> tuple[datetime | None, datetime | None, float]:
        """When a node first began in this round, when it ended, and for how many seconds it was parked."""
        if letter in "CKFX":
            ended = moment(self.created_ms + float(rest[1])) if len(rest) > 1 else None
            return moment(self.created_ms + float(rest[0])), ended, float(rest[2]) / 1000 if len(rest) > 2 else 0.0
        kept, _, parked = self.fields.get(f"t:{instance_id}", "").partition("|")
        if letter == "L" and not kept:
            kept = rest[0]
        return (moment(self.created_ms + float(kept)) if kept else None), None, float(parked or 0) / 1000

    @cached_property
    def _undoing(self) -> dict[str, str]:
        """By compensation the node that it undoes."""
        return {
            node["config"]["compensate"]: node["id"]
            for node in reversed(self.doc["nodes"])  # the first one that names it counts
            if (node.get("config") or {}).get("compensate") is not None
        }

    @cached_property
    def _latest_children(self) -> dict[str, str]:
        """By instance the latest child run that it started."""
        return {owner: child for child, owner in self._children().items()}

    def _children(self) -> dict[str, str]:
        """The node that each child run belongs to, by the child's id; they are numbered, and the first one comes first."""
        children = [(field[2:], owner) for field, owner in self.fields.items() if field.startswith("k:")]
        return dict(sorted(children, key=lambda child: (len(child[0]), child[0])))

    def _items(self, instance_id: str) -> ItemCounts | None:
        counts = self.fields.get(f"b:{instance_id}")
        if counts is None:
            return None
        total, begun, done, _ = map(int, counts.split("|"))
        return ItemCounts(total=total, begun=begun, done=done)

    def _output(self, node_id: str) -> Any:
        raw = self.fields.get(f"o:{node_id}")
        return None if raw is None else wire.loads(raw)

    def _waiting(self, nodes: Mapping[str, NodeSnapshot]) -> Iterator[WaitPoint]:
        for instance_id, node in nodes.items():
            if node.status is not NodeStatus.WAITING or node.waiting_for not in (
                "signal",
                "timer",
                "webhook",
                "subflow",
            ):
                continue
            raw = self.fields.get(f"w:{instance_id}")
            details = wire.loads(raw) if raw and node.waiting_for != "subflow" else None
            details = details if isinstance(details, dict) else {}
            yield WaitPoint(
                node_id=instance_id,
                kind=node.waiting_for,  # type: ignore[arg-type]
                since=moment(self.created_ms + float(self.fields[f"n:{instance_id}"].split("|")[4])),
                run_id=self.run_id,
                prompt=details.get("prompt"),
                payload_schema=details.get("schema"),
                actions=details.get("actions"),
                child_run_id=node.child_run_id,
                webhook_key=details.get("key") if node.waiting_for == "webhook" else None,
            )

    def _cancel(self) -> CancelInfo | None:
        raw = self.fields.get("cx")
        if raw is None:
            return None
        request = json.loads(raw)
        return CancelInfo(
            reason=request.get("reason", ""),
            requested_at=moment(request["at"]),
            grace=request.get("grace", 0) / 1000,
            forced=self.fields.get("forced") == "1",
        )

    @_reads
    def failures(self) -> list[NodeFailure]:
        """Failures for good, the first one first; what an item or a dynamic node handed to its owner is the owner's.

        So is that of a dynamic node whose owner's handler is called again: it decides what comes of it.
        """
        records = {f[2:]: _failure(f[2:], raw) for f, raw in self.fields.items() if f.startswith("f:")}
        handed = {record.node_id for instance_id, record in records.items() if record.node_id != instance_id}
        failed = [
            instance_id
            for instance_id in records
            if self.fields.get(f"n:{instance_id}", "").startswith("F") and instance_id not in handed
        ]
        failed = [instance_id for instance_id in failed if not self._is_handled(instance_id)]
        first = self.fields.get("f1")
        failed.sort(key=lambda instance_id: (instance_id != first, records[instance_id].at or moment(0)))
        undoing = [undone for undone in self._compensations() if undone.error is not None]
        by_themselves = {undone.node_id for undone in undoing}
        found = [records[instance_id] for instance_id in failed if instance_id not in by_themselves]
        return [*found, *(undone.error for undone in undoing if undone.error is not None)]

    def _is_handled(self, instance_id: str) -> bool:
        return bool(self._added(instance_id).get("resumes"))

    def _added(self, instance_id: str) -> Mapping[str, Any]:
        """The options of a node that was added while the run went; none of any other."""
        entry = self.fields.get(f"y:{instance_id}")
        return {} if entry is None else json.loads(entry)[5]

    @_reads
    def handlers_of_added(self) -> dict[str, str | None]:
        """The handlers that nodes need which were added while the run went, by node."""
        definitions = {name[2:]: json.loads(entry) for name, entry in self.fields.items() if name.startswith("z:")}
        return {name: handler_of(node) for name, node in definitions.items()}

    @_reads
    def context(self, *, inputs: bool = True) -> dict[str, Any]:
        """The full context: keys of the start context and of writes, outputs as `id` and `_outputs.id`, `_inputs.id`.

        Args:
            inputs: with `_inputs.id`; each is parsed once more, for it is another node's output.
        """
        context: dict[str, Any] = {}
        known = dict.fromkeys(f"o:{node['id']}" for node in self.doc["nodes"])
        for field in [*known, *(field for field in self.fields if field.startswith("o:") and field not in known)]:
            if field in self.fields:
                context[field[2:]] = context[f"_outputs.{field[2:]}"] = wire.loads(self.fields[field])
        if inputs:
            context.update(self._inputs())
        for field, raw in self.fields.items():
            if field.startswith("c:"):
                context[field[2:]] = wire.loads(raw)
        return context

    def _inputs(self) -> Iterator[tuple[str, Any]]:
        """What the last taken edge brought each node."""
        brought: dict[str, list[tuple[str, ...]]] = {}
        counts: dict[str, int] = {}
        place: tuple[str, ...]
        for edge in self.doc["edges"]:
            index = counts.get(edge["source"], 0)
            counts[edge["source"]] = index + 1
            place = (
                (f"x:{edge['source']}>{index}",)
                if "transform" in edge
                else (f"s:{edge['source']}", f"o:{edge['source']}")
            )
            brought.setdefault(edge["target"], []).append(place)
        for node_id, places in brought.items():
            if not self.fields.get(f"n:{node_id}", "S").startswith(("L", "C", "K", "F")):
                continue
            marks = self.fields.get(f"j:{node_id}", "t" * len(places))
            for index in taken_edges(marks, len(places)):
                place = places[index] if index < len(places) else ()
                raw = next((self.fields[field] for field in place if field in self.fields), None)
                if raw is not None:
                    yield f"_inputs.{node_id}", wire.loads(raw)
                    break

    @_reads
    def start_context(self) -> dict[str, str]:
        """The context that the run was started with, as wire JSON: without what handlers have written since."""
        found = {field[2:]: raw for field, raw in self.fields.items() if field.startswith("c:")}
        for field, raw in self.fields.items():
            if field.startswith("u:"):
                if raw:
                    found[field[2:]] = raw
                else:
                    found.pop(field[2:], None)
        return found

    @_reads
    def result(self) -> Any:
        """The blueprint's `outputs`, else every context key that does not start with an underscore.

        In `outputs` a node whose fallback stood in is read as its edges read it: its value is the fallback's output. What
        the node has itself is read by `_own.NODE`.
        """
        outputs = self.doc.get("outputs")
        if outputs is None:
            return {key: value for key, value in self.context(inputs=False).items() if not key.startswith("_")}
        context = self.context(inputs=any(key.startswith("_inputs.") for key in all_keys(outputs.values())))
        own = {key.removeprefix("_outputs."): value for key, value in context.items() if key.startswith("_outputs.")}
        for field, raw in self.fields.items():
            if field.startswith("s:") and f"c:{field[2:]}" not in self.fields:
                context[field[2:]] = wire.loads(raw)

        def find(path: str) -> Any:
            return resolve(own, path[len(OWN) :]) if path.startswith(OWN) else resolve(context, path)

        return {name: value_of(source, find) for name, source in outputs.items()}


def _attempts_made(letter: str, attempt: int, claims: int) -> int:
    """How many attempts have begun: a node that is ready, or waits for its next one, is not at it yet."""
    if not claims:
        return 0
    return attempt - 1 if letter in "RT" else attempt


def _in_full(state: str) -> str:
    """A node's state with all its parts: what completed at its first attempt and claim is kept as `C|since|took`."""
    if not state.startswith("C") or state.count("|") > 2:
        return state
    _, since, took = state.split("|")
    return f"C|1|1|0|{since}|{int(since) + int(took)}"


def _failure(instance_id: str, raw: str) -> NodeFailure:
    data = wire.loads(raw)
    return NodeFailure(
        node_id=data.get("node", instance_id),
        attempt=data.get("attempt", 1),
        type=data.get("type", ""),
        message=data.get("message", ""),
        traceback=data.get("traceback", ""),
        details=data.get("details"),
        retryable=data.get("retryable", True),
        input_hash=data.get("input", ""),
        at=moment(data["at"]) if data.get("at") else None,
    )
