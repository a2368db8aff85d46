"""Which trace a run belongs to: the `traceparent` (W3C Trace Context) of the code that starts it, kept in its record."""

import re
import sys
from contextvars import ContextVar

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

carried: ContextVar[str] = ContextVar("traceparent", default="")
"""What another program has sent along, for the code that starts runs in its name."""


def checked(value: str | None) -> str:
    """A `traceparent`; "" for none, and for what is none."""
    return value if value is not None and TRACEPARENT.fullmatch(value) else ""


def current_traceparent() -> str:
    """That of the current span, if this program uses OpenTelemetry; else what was carried here; "" for none.

    OpenTelemetry is not imported for it: a program that uses it has done so.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        found = api.get_current_span().get_span_context()
        if found.is_valid:
            return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 1:02x}"
    return carried.get()
