"""Addresses of Redis: refused by the client and by the server's file in the same words, and never by redis-py."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk import AsyncClient, Client, ConfigurationError
from flowcraft_sdk.address import AddressError, checked_address
from flowcraft_server.config.load import load_settings

GOOD = [
    "redis://h", "redis://h:6379", "redis://h:6379/0", "redis://:p%40ss@h:1/15", "rediss://u:p@h:65535/0?ssl_cert_reqs=none",
    "unix:///run/r.sock", "unix:///run/r.sock?db=3&password=p", "redis://[::1]:6379/1", "redis://[::1]", "redis://10.0.0.1/",
    "redis://h?socket_timeout=1.5&client_name=x", "redis://",
]  # fmt: skip
BAD = {
    "redis://h:99999": "port", "redis://h:notaport": "port", "redis://h:0": "port", "redis://h:": "port",
    "redis://h:-1": "port", "redis://[::1": "host", "redis://::1:6379": "brackets", "redis://h/zero": "database",
    "redis://h/0/1": "database", "redis://h?foo=1": "no option 'foo'", "redis://h?db=x": "'db' is a number",
    "redis://h?db=1&db=2": "twice", "redis://h?ssl_keyfile=x": "rediss", "redis://h?socket_keepalive=maybe": "true or false",
    "redis://:a%zz@h": "%25", "redis://:a#b@h": "%23", "unix://": "socket", "unix://host": "socket", "http://h": "expected",
    "localhost": "expected", "": "expected", "redis://h h": "spaces", "redis://h\n": "spaces", "redis://" + "h" * 3000: "characters",
    "redis://" + "h" * 300: "253",
}  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_what_redis_py_understands(url: str, tmp_path: Path) -> None:
    assert checked_address(url) == url
    for client in (Client(url), AsyncClient(url)):
        assert client.driver.redis is not None
    (tmp_path / "flowcraft.yaml").write_text(f'name: x\nredis: {{url: "{url}"}}\n')
    assert not [p for p in load_settings(tmp_path / "flowcraft.yaml").problems if "redis" in p.path]


@pytest.mark.parametrize("url", [url for url in BAD if url])
def test_what_is_refused(url: str, tmp_path: Path) -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match=BAD[url]) as refused:
            make(url)
        assert len(str(refused.value)) < 700 and "\n" not in str(refused.value)
    written = url.replace("\n", "\\n").replace("%", "%")
    (tmp_path / "flowcraft.yaml").write_text(f'name: x\nredis: {{url: "{written}"}}\n')
    (problem,) = [p for p in load_settings(tmp_path / "flowcraft.yaml").problems if "redis" in p.path]
    assert BAD[url] in problem.message and problem.mark is not None and problem.mark.line == 2


@pytest.mark.parametrize("url", [5, b"redis://h", ["redis://h"], object()])
def test_what_is_no_text(url: object) -> None:
    with pytest.raises(ConfigurationError, match="expected an address"):
        Client(url)  # type: ignore[arg-type]


PIECES = ["redis", "rediss", "valkey", "unix", "://", ":", "/", "@", "[", "]", "::1", "h", "p%40", "%", "%4", "6379", "0", "99999",
          "?", "db=1", "&", "ssl_keyfile=x", "#", "=", "é", " ", "socket_timeout=", "-1"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
@settings(max_examples=1_500, deadline=None)
def test_whatever_is_let_through_redis_py_takes(url: str) -> None:
    try:
        checked = checked_address(url)
    except AddressError as error:
        assert str(error)
        return
    with Client(checked) as client:
        client.driver.redis.connection_pool.make_connection()


@pytest.mark.parametrize("secret", ["s3cr3t", "p@ss", "a/b"])
def test_a_refusal_shows_no_password(secret: str) -> None:
    for url in (f"redis://:{secret}@h:99999", f"redis://h?password={secret}&foo=1", f"redis://u:{secret}@h/zero"):
        with pytest.raises(ConfigurationError) as refused:
            Client(url)
        assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "command", [["flowcraft", "start", "b", "-i"], ["flowcraft", "show"], ["flowcraft-server", "check"]]
)
def test_arguments_that_are_no_text(command: list[str]) -> None:
    program = str(Path(sys.executable).parent / command[0])
    done = subprocess.run([program, *command[1:], b"a=\xff\xfe"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1 and b"is not UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "executor: {workers: 999999999999}", "executor: {processes: 100000}", "executor: {asyncConcurrency: 9999999999}",
        "executor: {lease: 400d}", "executor: {drainTimeout: 99999999d}", "executor: {maxCrashes: 99999999999}",
        "history: {events: 999999999999}", "defaults: {maxRetries: 99999999999}",
        "defaults: {retryDelay: {initial: 1s, factor: 1e300}}", "limits: {subflowDepth: 99999}",
        "retention: {completed: {count: 99999999999999}}",
    ],
)  # fmt: skip
def test_every_number_of_the_file_has_a_bound(tmp_path: Path, text: str) -> None:
    (tmp_path / "flowcraft.yaml").write_text(f"name: x\n{text}\n")
    problems = load_settings(tmp_path / "flowcraft.yaml").problems
    assert len(problems) == 1 and problems[0].mark is not None and problems[0].mark.line == 2
    assert "at most" in problems[0].message
