"""A client and a server read one file: whatever stands in it, they come to the same name and address, or both refuse it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk._client.server_file import read_server_file
from flowcraft_server.config.load import load_settings

OURS = ("FLOWCRAFT", "REDIS_URL", "SOME_")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


def both(folder: Path, text: str) -> tuple[Any, Any]:
    """What either side makes of a file: name and address, or None for a refusal."""
    path = folder / "flowcraft.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        client: Any = tuple(reversed(read_server_file(path)))
    except ConfigurationError as error:
        client = "embedded" if "embedded store is not running" in str(error) else None
    loaded = load_settings(path)
    server: Any = None
    if loaded.settings is not None:
        found = loaded.settings
        server = "embedded" if found.redis.embedded else (found.name, found.redis.url)
    return client, server


REDIS = "redis: {url: redis://h}\n"


@pytest.mark.parametrize(
    "text",
    [
        *[f"name: {value}\n{REDIS}" for value in (
            "no", "on", "yes", "010", "0o10", "1e3", "12:30", "1_000", "~", "null", '""', "''", "2024-01-01", ".nan", "0x1F", "plain",
            "'010'", "[a]", "{a: b}", "!!str 010", "a b", "x" * 64, "x" * 65, "*none", "&a b", "'${SOME_NAME:-x}'", "'${SOME_NAME}'",
            "'${SOME_NAME:-}'", "$$", "'a$'", "true", "é",
        )],
        "name: a\nname: b\n" + REDIS, "version: 1\nname: a\n" + REDIS, "version: 2\nname: a\n" + REDIS, "name: a\nredis:\n",
        "name: a\nredis: here\n", "name: a\nredis: []\n", "name: a\nredis: {url: }\n", "name: a\nredis: {url: 5}\n",
        "name: a\nredis: {url: ''}\n", "name: a\nredis: {url: 'redis://h:99999'}\n", "name: a\nredis: {url: 'embedded:'}\n",
        "name: a\nredis: {url: 'valkey://h'}\n", "name: a\nprofiles: 5\n" + REDIS, "name: a\nprofiles: {p: 5}\n" + REDIS,
        "name: a\nx-mine: {a: b}\n" + REDIS, "- a\n", "", "a", "name: a\n---\nname: b\n", "{", "name: a\n" + REDIS * 2,
    ],
)  # fmt: skip
def test_odd_files(tmp_path: Path, text: str) -> None:
    client, server = both(tmp_path, text)
    assert client == server


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("p: {redis: {}}", ("a", "redis://h")), ("p: {redis: }", ("a", "redis://h")), ("p: ", ("a", "redis://h")),
        ("p: {name: b}", ("b", "redis://h")), ("p: {redis: {url: redis://o}}", ("a", "redis://o")), ("p: 5", None),
        ("q: {name: b}", None), ("p: {name: no}", ("no", "redis://h")), ("p: {name: 010}", None), ("p: {redis: 5}", None),
    ],
)  # fmt: skip
def test_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, expected: Any) -> None:
    monkeypatch.setenv("FLOWCRAFT_PROFILE", "p")
    assert both(tmp_path, f"name: a\n{REDIS}profiles: {{{profile}}}\n") == (expected, expected)


WORDS = ["no", "on", "010", "1e3", "12:30", "~", "", '""', "a", "a-b", "true", "'x'", "0.5", "redis://h", "redis://h:0", "embedded:", "'${SOME_V:-z}'", "'${SOME_V}'", "[]", "{}"]  # fmt: skip
SECTIONS = st.fixed_dictionaries({}, optional={"url": st.sampled_from(WORDS), "dataDir": st.sampled_from(WORDS)})
VARIABLES = st.dictionaries(
    st.sampled_from(["FLOWCRAFT__NAME", "FLOWCRAFT__REDIS__URL", "FLOWCRAFT_PROFILE", "SOME_V", "FLOWCRAFT__REDIS__DATA_DIR"]),
    st.sampled_from(["", "p", "q", "mine", "redis://over", "embedded:", "a b"]), max_size=3,
)  # fmt: skip


def written(name: str | None, redis: dict[str, str] | None, indent: str = "") -> str:
    lines = [] if name is None else [f"{indent}name: {name}"]
    if redis is not None:
        lines += [f"{indent}redis:", *(f"{indent}  {key}: {value}" for key, value in redis.items())]
    return "".join(line + "\n" for line in lines)


@given(
    name=st.none() | st.sampled_from(WORDS), redis=st.none() | SECTIONS,
    profile=st.none() | st.tuples(st.none() | st.sampled_from(WORDS), st.none() | SECTIONS), variables=VARIABLES,
    in_file=st.booleans(),
)  # fmt: skip
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_the_file_and_around_it(
    tmp_path: Path, name: str | None, redis: Any, profile: Any, variables: dict[str, str], in_file: bool
) -> None:
    text = written(name, redis)
    if profile is not None:
        text += "profiles:\n  p:\n" + written(profile[0], profile[1], "    ")
    beside = tmp_path / ".env"
    beside.write_text("".join(f"{key}={json.dumps(value)}\n" for key, value in variables.items()) if in_file else "")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {} if in_file else variables.items():
            patch.setenv(key, value)
        client, server = both(tmp_path, text or "name: a\n")
    assert client == server
