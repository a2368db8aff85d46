"""Whatever stands in the file, loading it gives diagnostics with places, never an exception."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flowcraft_server.config.load import LoadResult
from flowcraft_server.config.model import Settings
from flowcraft_server.config.shape import keys_of

Load = Callable[..., LoadResult]

WORDS = [
    *keys_of(Settings),
    *("profiles", "url", "queue", "workers", "lease", "heartbeat", "retryDelay", "initial", "age", "completed"),
    *("providers", "type", "openai-compatible", "scripted", "model", "retries", "on", "path", "params", "dirs"),
    *("json:dumps", "30s", "16MiB", "${X}", "${X:-a}", "$", "embedded:", "redis://h", "auto", "off", "", "forever"),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)
files = st.dictionaries(st.sampled_from([*keys_of(Settings), "profiles", "x-note"]), values, max_size=8)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(files, st.sampled_from([None, "url", "a"]))
def test_any_values_anywhere(load: Load, data: dict[str, Any], profile: str | None) -> None:
    result = load(json.dumps(data), profile=profile, environ={"FLOWCRAFT__EXECUTOR__WORKERS": "2"})
    assert (result.settings is None) == bool(result.errors)
    assert all("\n" not in str(diagnostic) for diagnostic in result.diagnostics)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(st.text(alphabet=st.sampled_from("ab:{}[]-&*!|>'\"#%@`,? \n\t\\é\x00"), max_size=60))
def test_any_text(load: Load, text: str) -> None:
    result = load(text)
    assert (result.settings is None) == bool(result.errors)
