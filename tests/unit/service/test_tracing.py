"""Tracing costs nothing where it is off, and says what to install where it cannot be on."""

import subprocess
import sys

import pytest

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.protocol.trace_context import checked, current_traceparent
from flowcraft_server.config.model import Settings
from flowcraft_server.service.tracing import build_tracing


def test_without_it_what_makes_spans_is_not_imported() -> None:
    code = (
        "import sys; import flowcraft_server.service.worker, flowcraft_server.service.tracing as t;"
        "from flowcraft_server.config.model import Settings;"
        "from flowcraft_sdk.protocol.trace_context import current_traceparent;"
        "assert t.build_tracing(Settings()) is None and current_traceparent() == '';"
        "assert 'flowcraft_server.observability.tracing' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("flowcraft_server.observability.tracing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flowcraft-server\[otel\]'"):
        build_tracing(Settings(tracing={"enabled": True}))


def test_it_goes_where_opentelemetry_is_set_to_send_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    made = build_tracing(Settings(name="shop", tracing={"enabled": True}))
    assert made is not None
    try:
        resource = made.provider.resource.attributes
        assert (resource["service.name"], resource["service.namespace"]) == ("mine", "shop")
        taken = [made.run_trace(f"run-{number}", 5, "").span.trace_flags for number in range(200)]
        assert 50 < sum(taken) < 150
        assert taken == [made.run_trace(f"run-{number}", 5, "").span.trace_flags for number in range(200)]
    finally:
        made.close()


@pytest.mark.parametrize(
    "value",
    [
        "",
        None,
        "00-x",
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"00-{1:032x}-{1:016x}-01\n",
        f"01-{1:032x}-{1:016x}-01",
    ],
)
def test_what_is_no_trace_context_is_none(value: str | None) -> None:
    assert checked(value) == ""
    assert checked(f"00-{1:032x}-{1:016x}-01") != ""
    assert current_traceparent() == ""
