"""The section `tracing` of `flowcraft.yaml`."""

from .sections import Section


class TracingSection(Section):
    """Spans for OpenTelemetry. `on` and `off` are short for `enabled`.

    Where they go, how many are taken and what the service is called is set by OpenTelemetry's own variables of the environment
    (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, ...).

    Attributes:
        enabled: Whether worker processes make them; needs the extra `otel`.
    """

    short_form = "enabled"

    enabled: bool = False
