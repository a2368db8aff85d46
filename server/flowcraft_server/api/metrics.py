"""The metrics of a deployment in the form of Prometheus: one process reports for all of it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from fastapi import Request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse, Response

from flowcraft_sdk import AsyncClient, FlowcraftError
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.usage_sums import beyond, total
from flowcraft_sdk.records import DeploymentMetrics, Histogram
from flowcraft_server import __version__

from .access import PUBLIC, VIEW
from .answers import answer
from .openapi import routes
from .problems import Problem, documented
from .runs import PREFIX, client_of

SECONDS = 4.0
"""Time in which Redis has to answer."""

KEPT_SECONDS = 2.0
"""For which an answer is sent again: requests may come from anybody, and as often as they like."""

MOST_LABELS = 200
"""Blueprints and handlers that have values of their own; the others are added up."""

MOST_NAMES = 100
"""Queues and limits that have values of their own."""

OTHERS = "(others)"
RUN_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
NODE_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds in seconds."""

router = routes(tag="probes")


def families(found: DeploymentMetrics | None) -> Iterator[Metric]:
    """All metrics.

    Args:
        found: what was read; None if Redis does not answer.
    """
    yield _gauge("flowcraft_info", "Always 1; the label has the version of the server.", {(__version__,): 1}, "version")
    yield _gauge(
        "flowcraft_redis_up",
        "1 if Redis answered, else 0; the other metrics are left out then.",
        {(): int(found is not None)},
    )
    if found is None:
        return
    yield from _of_runs(found)
    yield from _of_handlers(found)
    yield from _of_queues(found)
    yield from _of_workers(found)
    yield from _of_models(found)
    yield from _of_redis(found)


def _of_runs(found: DeploymentMetrics) -> Iterator[Metric]:
    yield _gauge(
        "flowcraft_runs",
        "Runs that are kept, by state.",
        {(state,): count for state, count in found.runs.items()},
        "status",
    )
    ended: dict[tuple[str, ...], float] = {}
    durations: dict[tuple[str, ...], Histogram] = {}
    for number, each in enumerate(found.blueprints):
        name = each.blueprint_id if each.blueprint_id and number < MOST_LABELS else OTHERS
        for state, count in each.ended.items():
            ended[name, state] = ended.get((name, state), 0) + count
        durations[(name,)] = _added(durations.get((name,)), each.durations)
    yield _counter("flowcraft_runs_ended", "Runs that have ended, child runs included.", ended, "blueprint", "status")
    yield _histogram(
        "flowcraft_run_duration_seconds",
        "From the first node's begin to the end of a run.",
        durations,
        RUN_BOUNDS,
        "blueprint",
    )


def _of_handlers(found: DeploymentMetrics) -> Iterator[Metric]:
    attempts: dict[tuple[str, ...], float] = {}
    durations: dict[tuple[str, ...], Histogram] = {}
    delays: dict[tuple[str, ...], Histogram] = {}
    for number, each in enumerate(found.handlers):
        name = each.handler if each.handler and number < MOST_LABELS else OTHERS
        for outcome, count in each.attempts.items():
            attempts[name, outcome] = attempts.get((name, outcome), 0) + count
        durations[(name,)] = _added(durations.get((name,)), each.durations)
        delays[(name,)] = _added(delays.get((name,)), each.delays)
    yield _counter("flowcraft_node_attempts", "Attempts at nodes, by how they ended.", attempts, "handler", "outcome")
    yield _histogram("flowcraft_node_duration_seconds", "How long attempts took.", durations, NODE_BOUNDS, "handler")
    yield _histogram(
        "flowcraft_node_queue_delay_seconds",
        "How long nodes were ready before a worker claimed them.",
        delays,
        NODE_BOUNDS,
        "handler",
    )
    yield _counter(
        "flowcraft_leases_lost", "Nodes that were given to another worker while one ran them.", {(): found.leases_lost}
    )
    yield _counter(
        "flowcraft_stale_outcomes",
        "Outcomes that were refused, as the node was another worker's.",
        {(): found.stale_outcomes},
    )


def _of_queues(found: DeploymentMetrics) -> Iterator[Metric]:
    queues = {(queue.name,): queue for queue in found.queues[:MOST_NAMES]}
    limits = {(limit.name,): limit for limit in found.limits[:MOST_NAMES]}
    yield _gauge(
        "flowcraft_queue_ready_nodes",
        "Nodes that are ready and wait for a worker.",
        {name: queue.ready for name, queue in queues.items()},
        "queue",
    )
    yield _gauge(
        "flowcraft_queue_oldest_age_seconds",
        "Since when the node is ready that has waited longest; 0 for none.",
        {name: queue.oldest_age or 0.0 for name, queue in queues.items()},
        "queue",
    )
    yield _gauge(
        "flowcraft_queue_workers",
        "Workers that serve the queue.",
        {name: queue.workers for name, queue in queues.items()},
        "queue",
    )
    yield _gauge(
        "flowcraft_queue_paused",
        "1 if the queue is paused.",
        {name: int(queue.paused_since is not None) for name, queue in queues.items()},
        "queue",
    )
    yield _gauge(
        "flowcraft_limit_waiting_nodes",
        "Nodes that wait for a limit.",
        {name: limit.waiting for name, limit in limits.items()},
        "limit",
    )
    yield _gauge(
        "flowcraft_limit_admitted_nodes",
        "Nodes that hold a slot of a limit.",
        {name: limit.admitted for name, limit in limits.items()},
        "limit",
    )


def _of_workers(found: DeploymentMetrics) -> Iterator[Metric]:
    yield _gauge("flowcraft_workers", "Worker processes that were seen lately.", {(): found.workers})
    yield _gauge("flowcraft_busy_workers", "Those that ran nodes when they were seen last.", {(): found.busy_workers})
    yield _gauge("flowcraft_worker_slots", "Functions that they run at once.", {(): found.slots})
    yield _gauge("flowcraft_running_nodes", "Nodes that a worker holds.", {(): found.running})
    yield _gauge(
        "flowcraft_dead_letters", "Nodes that were given up, as they ended their workers.", {(): found.dead_letters}
    )
    yield _gauge("flowcraft_broken_records", "What cannot be read and was set aside.", {(): found.broken})
    yield _gauge("flowcraft_timers_late", "Timers that were due more than a second ago.", {(): found.timers_late})
    yield _gauge("flowcraft_timer_delay_seconds", "Since when the latest timer is due.", {(): found.timer_delay})


def _of_models(found: DeploymentMetrics) -> Iterator[Metric]:
    """Counters of all time, and gauges of today, which fall at midnight."""
    yield from _of_models_for_all_time(found)
    in_all = total(row.usage for row in found.usage if row.kind == "all")
    for kind, name in (("model", "flowcraft_model"), ("blueprint", "flowcraft_blueprint_model")):
        named = {row.name: row.usage for row in [row for row in found.usage if row.kind == kind][:MOST_LABELS]}
        others = beyond(in_all, named.values())
        used = named if others is None else {**named, OTHERS: others}
        yield _gauge(
            f"{name}_calls_today",
            f"Model calls that were answered since midnight UTC, by {kind}.",
            {(label,): each.calls for label, each in used.items()},
            kind,
        )
        tokens: dict[tuple[str, ...], float] = {}
        for label, each in used.items():
            tokens[label, "input"], tokens[label, "output"] = each.input_tokens, each.output_tokens
        yield _gauge(
            f"{name}_tokens_today", f"Tokens that they sent and received, by {kind}.", tokens, kind, "direction"
        )
        yield _gauge(
            f"{name}_cost_dollars_today",
            f"What they cost in US dollars, by {kind}; calls without a known price count as 0.",
            {(label,): each.usd for label, each in used.items()},
            kind,
        )


def _of_models_for_all_time(found: DeploymentMetrics) -> Iterator[Metric]:
    """Which names have counts of their own never changes, so that those of the others only grow, too."""
    in_all = total(row.usage for row in found.usage_total if row.kind == "all")
    for kind, name in (("model", "flowcraft_model"), ("blueprint", "flowcraft_blueprint_model")):
        named = {row.name or OTHERS: row.usage for row in found.usage_total if row.kind == kind}
        others = beyond(in_all, named.values())
        used = named if others is None else {**named, OTHERS: others}
        yield _counter(
            f"{name}_calls",
            f"Model calls that were answered, by {kind}.",
            {(label,): each.calls for label, each in used.items()},
            kind,
        )
        tokens: dict[tuple[str, ...], float] = {}
        for label, each in used.items():
            tokens[label, "input"], tokens[label, "output"] = each.input_tokens, each.output_tokens
        yield _counter(f"{name}_tokens", f"Tokens that they sent and received, by {kind}.", tokens, kind, "direction")
        yield _counter(
            f"{name}_cost_dollars",
            f"What they cost in US dollars, by {kind}; calls without a known price count as 0.",
            {(label,): each.usd for label, each in used.items()},
            kind,
        )


def _of_redis(found: DeploymentMetrics) -> Iterator[Metric]:
    if found.memory is None:
        return
    yield _gauge("flowcraft_redis_memory_bytes", "Memory that Redis uses; not of a Cluster.", {(): found.memory})
    yield _gauge(
        "flowcraft_redis_memory_limit_bytes", "Memory that it may use; 0 for no limit.", {(): found.memory_limit or 0}
    )
    if found.script_seconds is not None:
        yield _counter(
            "flowcraft_redis_script_seconds",
            "Time that Redis spent in scripts, of all its users.",
            {(): found.script_seconds},
        )
        yield _counter("flowcraft_redis_script_calls", "Script calls of all its users.", {(): found.script_calls or 0})


Values = Mapping[tuple[str, ...], float]


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    """A counter; its name as it is stored ends in `_total`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def _histogram(
    name: str, text: str, values: Mapping[tuple[str, ...], Histogram], bounds: Iterable[float], *labels: str
) -> Metric:
    """A histogram with these bounds: what was counted finer is counted with the next bound above it."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for names, found in values.items():
        buckets, below = [], 0
        left = sorted(found.buckets.items())
        for bound in bounds:
            while left and left[0][0] <= bound:
                below += left.pop(0)[1]
            buckets.append((f"{bound:g}", float(below)))
        buckets.append(("+Inf", float(found.count)))
        family.add_metric(names, buckets, found.sum)
    return family


def _added(one: Histogram | None, other: Histogram) -> Histogram:
    if one is None:
        return other
    buckets = dict(one.buckets)
    for bound, count in other.buckets.items():
        buckets[bound] = buckets.get(bound, 0) + count
    sums = None if one.sum is None or other.sum is None else one.sum + other.sum
    return Histogram(buckets=buckets, count=one.count + other.count, sum=sums)


@router.get("/metrics", dependencies=[PUBLIC], response_class=PlainTextResponse, responses=documented(404))
async def open_metrics(request: Request) -> Response:
    """The metrics of the whole deployment, in the text form of Prometheus; open to everybody, as probes are."""
    if not request.app.state.options.metrics:
        raise Problem(404, "not_found", f"api.metrics is off; {PREFIX}/metrics/prometheus takes a token")
    return await _answer(request)


@router.get(f"{PREFIX}/metrics", dependencies=[VIEW], response_model=DeploymentMetrics)
async def read_metrics(request: Request) -> Response:
    """The metrics of the whole deployment, as records."""
    return answer(request, await client_of(request).admin.metrics())


@router.get(f"{PREFIX}/metrics/prometheus", dependencies=[VIEW], response_class=PlainTextResponse)
async def guarded_metrics(request: Request) -> Response:
    """What `/metrics` answers, with a token."""
    return await _answer(request)


async def _answer(request: Request) -> Response:
    reader: MetricsReader = request.app.state.metrics
    return Response(await reader.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Found(Collector):
    """Gives what was read to the library that writes it."""

    def __init__(self, found: DeploymentMetrics | None) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        return families(self._found)


class MetricsReader:
    """Reads the metrics, for all requests of a moment once."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._text = b""

    async def text(self) -> bytes:
        """The metrics, a moment old at most."""
        async with self._lock:
            if clock() - self._at > KEPT_SECONDS:
                found = None
                try:
                    async with asyncio.timeout(SECONDS):
                        found = await self._client.admin.metrics()
                except (FlowcraftError, TimeoutError):
                    pass  # flowcraft_redis_up says so
                registry = CollectorRegistry()
                registry.register(_Found(found))
                self._text = generate_latest(registry)
                self._at = clock()
            return self._text
