"""Plans by hash, loaded from Redis once per process: a worker runs plans that it has never seen a file of."""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.blueprints.compiling import plan_records
from flowcraft_server.blueprints.compiling.compiler import PLAN_FORMAT, compile_blueprint
from flowcraft_server.blueprints.compiling.fast_path import FLAG
from flowcraft_server.blueprints.compiling.plan import LazyNodes, Plan, PlanNode
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.store.link import StoreLink

MOST_SENT = 32
"""Fields that a successor reads up to which they are sent along with each completion before it."""


def sole_successor(entries: Mapping[str, list[Any]], node_id: str) -> tuple[str | int, ...]:
    """What the call that completes a node sends about the only node that follows: words `successor` to `reads` of complete.lua.

    The script would have to read and parse two plan entries for it. Without successor if the node is not one that the
    compiler has flagged for the fast path, or if there is more to say; then the script does that.
    """
    entry = entries[node_id]
    edges = entry[plan_records.OUTS]
    if not plan_records.options_of(entry).get(FLAG) or len(edges) > 1:
        return ("",)
    if not edges:
        return ("-",)
    target, place, joins, queue = plan_records.read_plain_edge(edges[0])
    brings, reads = plan_records.read_target(entries[target])
    if place > len(brings) or len(reads) > MOST_SENT or joins.startswith("#"):
        return ("",)
    field = brings[place - 1]
    is_transformed = field.startswith("x:") and not field.endswith(">fallback")
    if plan_records.options_of(entries[target]).get("inputs") and not is_transformed:
        field = ""  # a declared input is replaced by a transform's value, by nothing else
    return (target, queue, place, joins, field, *reads)


class PlanNotFound(LookupError):
    """A run is pinned to a plan that is no longer in Redis."""


class PlanTooNew(LookupError):
    """A plan was published by a newer release, and may hold what this one would run wrongly."""


class PlanCache:
    """Compiled plans of this process. Thread-safe."""

    def __init__(self, link: StoreLink, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._plans: dict[str, Plan] = {}
        self._last: dict[str, Plan] = {}
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, plan_hash: str) -> Plan:
        """The plan with this hash.

        Raises:
            PlanNotFound: it is not in Redis.
            PlanTooNew: a newer release has published it.
        """
        plan = self._plans.get(plan_hash)
        if plan is None:
            with self._lock:
                lock = self._loading.setdefault(plan_hash, threading.Lock())
            with lock:  # compiling a large one takes a while: one thread does it, for all
                plan = self._plans.get(plan_hash) or self._load(plan_hash)
                self._plans[plan_hash] = plan
            self._loading.pop(plan_hash, None)
        return plan

    def current(self, blueprint_id: str) -> Plan | None:
        """The plan that a new run of the blueprint would get, or None if the blueprint is not published."""
        for _ in range(3):  # between the two reads another one may have been published, and the first one removed
            found = self._link.read_fields(self._keys.blueprints, [blueprint_id])[0]
            if found is None:
                break
            try:
                plan = self._last[blueprint_id] = self.get(found.decode())
            except PlanNotFound:
                continue
            return plan
        return None

    def last(self, blueprint_id: str) -> Plan | None:
        """The plan that `current` found last: another one may be current by now."""
        return self._last.get(blueprint_id)

    def forget(self, blueprint_id: str) -> None:
        """Another plan is current by now: `last` is to know of none."""
        self._last.pop(blueprint_id, None)

    def _load(self, plan_hash: str) -> Plan:
        fields = {k.decode(): v.decode() for k, v in self._link.read_hash(self._keys.plan(plan_hash)).items()}
        if "doc" not in fields:
            raise PlanNotFound(f"plan {plan_hash} is not in Redis")
        if int(fields.get("format", PLAN_FORMAT)) > PLAN_FORMAT:
            raise PlanTooNew(
                f"its plan {plan_hash} has format {fields['format']}, this release reads up to {PLAN_FORMAT}: upgrade this worker"
            )
        compiled = compile_blueprint(Blueprint.from_plain(json.loads(fields["doc"])))
        entries = _Entries(fields)

        def stored(node_id: str) -> PlanNode:
            # What a claim returns is laid down by the stored entry, which another release may have compiled.
            successor = sole_successor(entries, node_id)
            direct_handoff = len(successor) > 1 and len(str(successor[3])) == 1
            reads = tuple(entries[node_id][plan_records.READS])
            return replace(compiled.nodes[node_id], reads=reads, successor=successor, direct_handoff=direct_handoff)

        return replace(compiled, hash=plan_hash, nodes=LazyNodes(compiled.blueprint_nodes, stored), fields=fields)


class _Entries(dict[str, list[Any]]):
    """A plan's stored entries by node, each parsed when it is asked for."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def __missing__(self, node_id: str) -> list[Any]:
        entry: list[Any] = json.loads(self._fields[f"n:{node_id}"])
        self[node_id] = entry
        return entry
