"""Addresses of Redis: refused by the client and by the server's file in the same words, and never by redis-py."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk import AsyncClient, Client, ConfigurationError
from flowcraft_sdk._transport.address import OPTIONS, AddressError, checked_address, sentinel_address
from flowcraft_sdk._transport.connector import ClientSettings, async_client, sync_client
from flowcraft_server.config.load import load_settings
from flowcraft_server.store.link import connect

GOOD = [
    "redis://h", "redis://h:6379", "redis://h:6379/0", "redis://:p%40ss@h:1/15", "rediss://u:p@h:65535/0?ssl_cert_reqs=none",
    "unix:///run/r.sock", "unix:///run/r.sock?db=3&password=p", "redis://[::1]:6379/1", "redis://[::1]", "redis://10.0.0.1/",
    "redis://h?socket_timeout=1.5&client_name=x", "redis://", "redis+sentinel://h/main", "redis+sentinel://h:1,[::1]:2,c/my.main/3",
    "rediss+sentinel://u:p%40@a:26379,b/main/0?ssl_cert_reqs=none&sentinel_password=s&sentinel_username=u",
    "redis+cluster://h", "redis+cluster://h:1,[::1]:2,c/0", "rediss+cluster://u:p%40@a:7000,b?ssl_cert_reqs=none&socket_timeout=2",
]  # fmt: skip
BAD = {
    "redis://h:99999": "port", "redis://h:notaport": "port", "redis://h:0": "port", "redis://h:": "port",
    "redis://h:-1": "port", "redis://[::1": "host", "redis://::1:6379": "brackets", "redis://h/zero": "database",
    "redis://h/0/1": "database", "redis://h?foo=1": "no option 'foo'", "redis://h?db=x": "'db' is a number",
    "redis://h?db=1&db=2": "twice", "redis://h?ssl_keyfile=x": "rediss", "redis://h?socket_keepalive=maybe": "true or false",
    "redis://:a%zz@h": "%25", "redis://:a#b@h": "%23", "unix://": "socket", "unix://host": "socket", "http://h": "HttpClient",
    "localhost": "expected", "": "expected", "redis://h h": "spaces", "redis://h\n": "spaces", "redis://" + "h" * 3000: "characters",
    "redis://" + "h" * 300: "253", "redis://:6379": "host", "redis://a,b:1": "host", "redis://[h]": "brackets",
    "redis://[::1]x:1": "host", "redis://h/\u0661": "database", "redis://h/1?db=2": "twice", "redis://h?db=1.5": "'db' is a number",
    "redis://h?max_connections=999999999": "from 1 to 100000", "redis://h?max_connections=0": "from 1 to 100000",
    "redis://h?health_check_interval=1.5": "a number", "redis://h?socket_timeout=0": "above 0", "redis://h?timeout=5": "no option",
    "redis://h?socket_keepalive=off": "true or false", "redis://h?password=": "not empty", "redis://h?protocol=3": "no option",
    "rediss://h?ssl_cert_reqs=maybe": "none, optional or required", "unix:///s?socket_keepalive=1": "no option",
    "unix://tmp/x.sock": "three slashes", "redis://:%ff@h": "UTF-8", "unix:///a%00b": "%00", "valkeyx://h": "expected",
    "redis+sentinel://h": "NAME", "redis+sentinel://h/": "NAME", "redis+sentinel:///main": "Sentinels", "redis+sentinel://a,,b/main": "Sentinels",
    "redis+sentinel://a:x/main": "port", "redis+sentinel://a/ma in": "spaces", "redis+sentinel://a/main/x": "database",
    "redis+sentinel://a/main/0/1": "database", "redis+sentinel://a/main?ssl_keyfile=x": "rediss", "redis+sentinel://a/main/1?db=2": "twice",
    "redis+sentinel://a/main?sentinel_port=1": "no option", "redis://a?sentinel_password=x": "no option", "unix+sentinel://a/main": "expected",
    "redis+cluster://": "1 to 1,000 nodes", "redis+cluster://a,,b": "nodes", "redis+cluster://a:x": "port", "redis+cluster://a/1": "one database",
    "redis+cluster://a?db=0": "no option", "redis+cluster://a?ssl_keyfile=x": "rediss", "redis+cluster://a b": "spaces",
}  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_what_redis_py_understands(url: str, tmp_path: Path) -> None:
    assert checked_address(url) == url
    for client in (Client(url), AsyncClient(url)):
        assert client.driver.redis is not None
    (tmp_path / "flowcraft.yaml").write_text(f'name: x\nredis: {{url: "{url}"}}\n')
    assert not [p for p in load_settings(tmp_path / "flowcraft.yaml").diagnostics if "redis" in p.path]


@pytest.mark.parametrize("url", [url for url in BAD if url])
def test_what_is_refused(url: str, tmp_path: Path) -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match=BAD[url]) as refused:
            make(url)
        assert len(str(refused.value)) < 700 and "\n" not in str(refused.value)
    written = url.replace("\n", "\\n").replace("%", "%")
    (tmp_path / "flowcraft.yaml").write_text(f'name: x\nredis: {{url: "{written}"}}\n')
    (diagnostic,) = [p for p in load_settings(tmp_path / "flowcraft.yaml").diagnostics if "redis" in p.path]
    assert BAD[url] in diagnostic.message and diagnostic.position is not None and diagnostic.position.line == 2


@pytest.mark.parametrize("url", [5, b"redis://h", ["redis://h"], object()])
def test_what_is_no_text(url: object) -> None:
    with pytest.raises(ConfigurationError, match="expected an address"):
        Client(url)  # type: ignore[arg-type]


PIECES = ["redis", "rediss", "valkey", "unix", "+sentinel", "+cluster", ",", "main", "://", ":", "/", "@", "[", "]", "::1", "h", "p%40", "%", "%4", "6379", "0", "99999",
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


SECRETS = [
    "s3cr3t",
    "s3@cr3t",
    "s3/cr3t",
    "s3?cr3t",
    "s3#cr3t",
    "s3%cr3t",
    "s3:cr3t",
    "s3[cr3t",
    "s3 cr3t",
    "s3?cr3t=1",
    "s3@c/r3t",
]
PLACES = ["redis://:{}@h:99999", "redis://u:{}@h/zero", "redis://h?password={}&foo=1", "redis://:{}@h?foo=1", "redis://:{}@h:port",
          "http://u:{}@h", "u:{}@h:6379", "unix://u:{}@host", "redis://:{}", "rediss://h?ssl_password={}&foo=1"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_refusal_shows_no_part_of_a_password(secret: str, place: str) -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(ConfigurationError) as refused:
            make(place.format(secret) + " ")
        assert not any(part in str(refused.value) for part in ("s3", "cr3t", "r3t"))
        try:
            make(place.format(secret))
        except ConfigurationError as error:
            assert not any(part in str(error) for part in ("s3", "cr3t", "r3t"))


VALUES = {
    "db": "3", "socket_timeout": "2.5", "socket_connect_timeout": "1", "socket_keepalive": "false", "health_check_interval": "30",
    "max_connections": "100000", "ssl_cert_reqs": "none", "ssl_check_hostname": "false", "retry_on_timeout": "no",
}  # fmt: skip


@pytest.mark.parametrize(("scheme", "name"), [(scheme, name) for scheme, names in OPTIONS.items() for name in names])
def test_each_option_is_one_that_every_connection_of_ours_takes(scheme: str, name: str) -> None:
    place = "/s" if scheme == "unix" else "h/main" if scheme.endswith("+sentinel") else "h"
    address = checked_address(f"{scheme}://{place}?{name}={VALUES.get(name, 'x')}")
    settings = ClientSettings()
    for client in (sync_client(address, settings), async_client(address, settings), connect(address)):
        client.connection_pool.make_connection()


@pytest.mark.parametrize("variable", ["FLOWCRAFT_REDIS_URL", "REDIS_URL"])
def test_a_variable_with_a_wrong_address_is_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOWCRAFT_REDIS_URL", raising=False)
    monkeypatch.setenv(variable, "redis://h:99999")
    with pytest.raises(ConfigurationError, match=f"^{variable}: the port is not a number"):
        Client()
    (tmp_path / "flowcraft.yaml").write_text("name: x\n")
    with pytest.raises(ConfigurationError, match=f"^{variable}: the port is not a number"):
        Client.from_config(tmp_path / "flowcraft.yaml")


@pytest.mark.parametrize("command", ["run", "worker", "health", "gc"])
@pytest.mark.parametrize("url", ["redis://h:99999", "redis://h?foo=1", "redis://[::1", "redis://h?timeout=5"])
def test_the_server_refuses_a_wrong_address_of_the_environment(command: str, url: str, tmp_path: Path) -> None:
    (tmp_path / "flowcraft.yaml").write_text("name: x\nhandlers: {h: 'json:dumps'}\n")
    program = str(Path(sys.executable).parent / "flowcraft-server")
    environ = {"PATH": "/usr/bin:/bin", "REDIS_URL": url}
    done = subprocess.run([program, command], cwd=tmp_path, env=environ, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("REDIS_URL: ") and done.stderr.count("\n") == 1


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
    diagnostics = load_settings(tmp_path / "flowcraft.yaml").diagnostics
    assert len(diagnostics) == 1 and diagnostics[0].position is not None and diagnostics[0].position.line == 2
    assert "at most" in diagnostics[0].message


def test_what_a_sentinel_address_says() -> None:
    found = sentinel_address(
        checked_address("valkeys+sentinel://u:p%40@a,[::1]:7/main/3?socket_timeout=2&sentinel_password=s%2F")
    )
    assert found is not None
    assert found.sentinels == (("a", 26379), ("::1", 7))
    assert (found.service, found.tls, dict(found.sentinel_options)) == ("main", True, {"password": "s/"})
    assert {name: found.options[name] for name in ("username", "password", "db", "socket_timeout")} == {
        "username": "u", "password": "p@", "db": 3, "socket_timeout": 2.0,
    }  # fmt: skip
    assert sentinel_address("redis://h") is None


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_settings_are_client_settings(client: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ConfigurationError, match="settings are ClientSettings, got dict: write ClientSettings"):
        client("redis://h", settings={"max_value": 1})  # type: ignore[arg-type]
