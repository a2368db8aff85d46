"""Spans of runs, nodes and model calls, for OpenTelemetry; made where `tracing` is on, and imported nowhere else."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as current_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from flowcraft_sdk.protocol.trace_context import checked
from flowcraft_server import __version__

FAILED = ("failed", "timed_out")
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class RunTrace:
    """The span of a run, before it is made: nodes are below it from the first one on.

    Attributes:
        span: what identifies it.
        parent: the span of the code that has started the run, if that has one.
    """

    span: SpanContext
    parent: SpanContext | None


class _Ids(RandomIdGenerator):
    """Random ids, but for spans whose ids are known before."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    @contextmanager
    def choosing(self, span: SpanContext) -> Iterator[None]:
        """Give the next span of this thread these ids."""
        self._chosen.span = span
        try:
            yield
        finally:
            self._chosen.span = None

    def generate_span_id(self) -> int:
        """See `IdGenerator`."""
        chosen: SpanContext | None = getattr(self._chosen, "span", None)
        return super().generate_span_id() if chosen is None else chosen.span_id

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        chosen: SpanContext | None = getattr(self._chosen, "span", None)
        return super().generate_trace_id() if chosen is None else chosen.trace_id


class NodeSpan:
    """The span of an attempt at a node.

    Attributes:
        context: what its spans and those of the handler are below.
        traceparent: of the span, for runs that the node starts.
        trace_id: of the trace, as hexadecimal digits.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context = trace.set_span_in_context(span, Context())
        found = span.get_span_context()
        self.trace_id = f"{found.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{found.span_id:016x}-{int(found.trace_flags):02x}"

    def enter(self) -> Token[Context]:
        """From here on it is the current span of this thread or task."""
        return current_context.attach(self.context)

    def leave(self, token: Token[Context]) -> None:
        """It is so no longer."""
        current_context.detach(token)

    def end(self, outcome: str, failure: tuple[str, str, str] | None = None) -> None:
        """End it. Ending it again changes nothing.

        Args:
            outcome: how the attempt has ended.
            failure: type, message and traceback of what it has failed with.
        """
        if not self.span.is_recording():
            return
        self.span.set_attribute("flowcraft.node.outcome", outcome)
        if failure is not None:
            type_, message, _ = failure
            self.span.set_attribute("error.type", type_)
            names = ("exception.type", "exception.message", "exception.stacktrace")
            self.span.add_event("exception", dict(zip(names, failure, strict=True)))
            self.span.set_status(Status(StatusCode.ERROR, f"{type_}: {message}"))
        self.span.end()


class Tracing:
    """Makes the spans of this process.

    Args:
        name: of the deployment.
        exporter: where spans go; by default to the collector that the variables `OTEL_EXPORTER_OTLP_...` name.
    """

    def __init__(self, name: str, exporter: SpanExporter | None = None) -> None:
        attributes = {"service.namespace": name, "service.version": __version__}
        if "OTEL_SERVICE_NAME" not in os.environ:
            attributes["service.name"] = "flowcraft-server"
        self._ids = _Ids()
        self.provider = TracerProvider(
            resource=Resource.create(attributes), id_generator=self._ids, shutdown_on_exit=False
        )
        self.provider.add_span_processor(BatchSpanProcessor(exporter or _otlp_exporter()))
        self._tracer = self.provider.get_tracer("flowcraft", __version__)

    def make_global(self) -> None:
        """Have libraries that make spans of their own use the same exporter."""
        trace.set_tracer_provider(self.provider)

    def close(self) -> None:
        """Send what was not sent yet, and stop."""
        self.provider.shutdown()

    def run_trace(self, run_id: str, created: int, traceparent: str) -> RunTrace:
        """What identifies the span of a run: the same in each process.

        Args:
            created: ms since the epoch.
            traceparent: what the run's record has; "" for none.
        """
        digest = hashlib.sha256(f"{run_id}|{created}".encode()).digest()
        span_id = int.from_bytes(digest[:8], "big") or 1
        if checked(traceparent):
            _, trace_text, parent_text, flags = traceparent.split("-")
            flags_ = TraceFlags(int(flags, 16) & 1)
            parent = SpanContext(int(trace_text, 16), int(parent_text, 16), is_remote=True, trace_flags=flags_)
            return RunTrace(SpanContext(parent.trace_id, span_id, is_remote=True, trace_flags=flags_), parent)
        trace_id = int.from_bytes(digest[8:24], "big") or 1
        sampled = self.provider.sampler.should_sample(None, trace_id, "run").decision is Decision.RECORD_AND_SAMPLE
        return RunTrace(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(int(sampled))), None)

    def node_span(self, run: RunTrace, name: str, attributes: Attributes) -> NodeSpan:
        """Begin the span of an attempt."""
        above = trace.set_span_in_context(NonRecordingSpan(run.span), Context())
        return NodeSpan(self._tracer.start_span(name, above, attributes=attributes))

    def run_span(self, run: RunTrace, name: str, began: int, status: str, attributes: Attributes) -> None:
        """Make the span of a run that has just ended.

        Args:
            began: ms since the epoch.
        """
        above = Context() if run.parent is None else trace.set_span_in_context(NonRecordingSpan(run.parent), Context())
        with self._ids.choosing(run.span):
            span = self._tracer.start_span(name, above, attributes=attributes, start_time=began * 1_000_000)
        if status in FAILED:
            span.set_status(Status(StatusCode.ERROR, status))
        span.end()

    @contextmanager
    def model_span(self, above: NodeSpan, name: str, attributes: Attributes) -> Iterator[Span]:
        """The span of a call to a model, around a block; what leaves the block is noted by its type."""
        with self._tracer.start_as_current_span(
            name, above.context, SpanKind.CLIENT, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
                raise


def _otlp_exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
