"""Spans of runs, nodes, child runs and model calls: which there are, and what lies below what."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from flowcraft_sdk import Client
from flowcraft_sdk.protocol.trace_context import carried
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.script_rules import Reply, Script
from flowcraft_server.llm.scripted import Scripted
from flowcraft_server.observability.tracing import Tracing
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from flowcraft_server.worker.worker import Worker

BLUEPRINTS = [
    {
        "id": "chain",
        "nodes": [{"id": "first", "uses": "ask"}, {"id": "second", "uses": "wave"}],
        "edges": ["first -> second"],
    },
    {"id": "bad", "nodes": [{"id": "a", "uses": "fails", "config": {"maxRetries": 2}}]},
    {
        "id": "parent",
        "nodes": [
            {"id": "call", "uses": "subflow", "params": {"blueprintId": "chain"}},
            {"id": "start", "uses": "starts"},
        ],
    },
]
WITHIN: dict[str, str] = {}


def ask(ctx: Any) -> str:
    with trace.get_tracer("mine", tracer_provider=OWN).start_as_current_span("of the handler"):
        return ctx.llm.complete("hello", model="m-1", temperature=0.5)


async def wave(ctx: Any) -> int:
    await asyncio.sleep(0)
    WITHIN[ctx.run_id] = f"{trace.get_current_span().get_span_context().span_id:016x}"
    await ctx.llm.complete("hello")
    return 1


def fails(_ctx: Any) -> None:
    raise ValueError("no such customer")


def starts(ctx: Any) -> str:
    return ctx.start_child("bad", {})


HANDLERS = {"ask": ask, "wave": wave, "fails": fails, "starts": starts}
OWN = TracerProvider()


class Traced:
    """An environment whose only worker makes spans."""

    def __init__(self, env: TestEnvironment) -> None:
        self.env = env
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing("test", self.exporter)
        models = LanguageModels({"made-up": Scripted("made-up", Script((), Reply("hi", 0.0)), source="test")})
        settings = WorkerSettings(partitions=env.partitions.count)
        env.kill_worker()
        worker = Worker(env.url, env.namespace, env.handlers, settings, models, tracing=self.tracing)
        worker.start()
        env.workers.append(worker)

    def spans(self, *runs: str) -> dict[str, list[ReadableSpan]]:
        """By name, once the spans of these runs are there: the worker makes them when it has read that the run has ended."""
        while True:
            self.tracing.provider.force_flush()
            found: dict[str, list[ReadableSpan]] = {}
            for span in self.exporter.get_finished_spans():
                found.setdefault(span.name, []).append(span)
            if {f"run {name}" for name in runs} <= set(found):
                return found


@pytest.fixture(params=[1, 16])
def traced(request: pytest.FixtureRequest, environment: Callable[..., TestEnvironment]) -> Iterator[Traced]:
    env = environment(blueprints=BLUEPRINTS, handlers=HANDLERS, partitions=request.param)
    made = Traced(env)
    yield made
    made.tracing.close()


def below(span: ReadableSpan, above: ReadableSpan) -> bool:
    return (
        span.parent is not None
        and span.parent.span_id == above.context.span_id
        and span.context.trace_id == above.context.trace_id
    )


def test_a_run_lies_below_the_span_that_starts_it_and_its_nodes_below_it(traced: Traced) -> None:
    with trace.use_span(OWN.get_tracer("caller").start_span("request")) as request:
        run = traced.env.client.start("chain", run_id="r1")
    assert run.wait(timeout=60).status == "completed"
    spans = traced.spans("chain")
    (run_span,), (first,), (second,) = spans["run chain"], spans["node chain/first"], spans["node chain/second"]
    context = request.get_span_context()
    assert run_span.parent is not None and run_span.parent.span_id == context.span_id
    assert run_span.context.trace_id == context.trace_id
    assert below(first, run_span) and below(second, run_span)
    assert (
        run_span.attributes["flowcraft.run.id"] == "r1" and run_span.attributes["flowcraft.run.status"] == "completed"
    )
    assert (
        first.attributes["flowcraft.node.outcome"] == "completed"
        and first.attributes["flowcraft.node.handler"] == "ask"
    )
    assert WITHIN["r1"] == f"{second.context.span_id:016x}", "spans of the handler's libraries lie below its node"
    (named,), (unnamed,) = spans["chat m-1"], spans["chat scripted"]
    assert below(named, first) and below(unnamed, second) and named.kind is SpanKind.CLIENT
    assert named.attributes["gen_ai.operation.name"] == "chat" and named.attributes["gen_ai.request.model"] == "m-1"
    assert named.attributes["gen_ai.request.temperature"] == 0.5
    assert named.attributes["gen_ai.usage.output_tokens"] >= 0 and named.attributes[
        "gen_ai.response.finish_reasons"
    ] == ("stop",)
    assert "hello" not in json.dumps([dict(span.attributes) for each in spans.values() for span in each], default=str)


def test_child_runs_lie_below_the_node_that_starts_them(traced: Traced) -> None:
    traced.env.client.start("parent", run_id="p").wait(timeout=60)
    traced.env.client.get_handle("p").wait(timeout=20)
    for child in traced.env.client.list_runs(parent="p"):
        traced.env.client.get_handle(child.run_id).wait(timeout=20)
    spans = traced.spans("parent", "chain", "bad")
    (parent,), (child,), (other,) = spans["run parent"], spans["run chain"], spans["run bad"]
    (call,), (start,) = spans["node parent/call"], spans["node parent/start"]
    assert parent.parent is None
    assert below(call, parent) and below(child, call) and below(spans["node chain/first"][0], child)
    assert below(start, parent) and below(other, start)
    assert call.attributes["flowcraft.node.outcome"] == "waiting"


def test_failed_attempts_say_why(traced: Traced) -> None:
    traced.env.client.start("bad").wait(timeout=60)
    spans = traced.spans("bad")
    first, second = spans["node bad/a"]
    assert [each.attributes["flowcraft.node.outcome"] for each in (first, second)] == ["retried", "failed"]
    assert second.status.status_code is StatusCode.ERROR and second.attributes["error.type"] == "ValueError"
    assert "no such customer" in str(second.events[0].attributes["exception.stacktrace"])
    (run,) = spans["run bad"]
    assert run.status.status_code is StatusCode.ERROR and below(first, run) and below(second, run)


def test_a_trace_that_is_not_taken_makes_no_spans(traced: Traced) -> None:
    token = carried.set(f"00-{7:032x}-{9:016x}-00")
    try:
        traced.env.client.start("chain").wait(timeout=60)
        carried.set("nonsense|\n")
        with Client(traced.env.url, namespace=traced.env.namespace) as other:
            other.start("bad", run_id="odd").wait(timeout=20)
    finally:
        carried.reset(token)
    assert set(traced.spans("bad")) == {"run bad", "node bad/a"}


def test_without_tracing_nothing_of_it_is_done(environment: Callable[..., TestEnvironment]) -> None:
    env = environment(blueprints=BLUEPRINTS, handlers={**HANDLERS, "ask": lambda _ctx: 1, "wave": lambda _ctx: 1})
    env.client.start("parent", run_id="p").wait(timeout=60)
    for run_id in ("p", "p~1"):
        assert env.link.redis.hget(env.partitions.for_run(run_id).run(run_id), "tp") is None
