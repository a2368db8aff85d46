"""Tracing as the configuration wants it."""

from typing import TYPE_CHECKING

from flowcraft_sdk import ConfigurationError
from flowcraft_server.config.model import Settings

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import Tracing

INSTALL = "pip install 'flowcraft-server[otel]'"


class TracingNotInstalled(ConfigurationError):
    """`tracing` is on, and OpenTelemetry is not installed."""


def build_tracing(settings: Settings) -> "Tracing | None":
    """What makes the spans of a worker process; None where `tracing` is off, and nothing is imported for it.

    Raises:
        TracingNotInstalled: OpenTelemetry is not installed.
    """
    if not settings.tracing.enabled:
        return None
    try:
        from flowcraft_server.observability.tracing import Tracing

        return Tracing(settings.name)
    except ImportError as error:
        raise TracingNotInstalled(
            f"tracing is on, and {error.name or 'opentelemetry'} is not installed: {INSTALL}"
        ) from None
