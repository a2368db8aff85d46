"""What a client reads of a server's file."""

from pathlib import Path

import pytest

from flowcraft_sdk import AsyncClient, Client, ConfigurationError
from flowcraft_sdk.server_file import read_server_file


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWCRAFT__NAME", "FLOWCRAFT__REDIS__URL", "FLOWCRAFT__REDIS__DATADIR", "SOME_URL"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str) -> Path:
    path = folder / "flowcraft.yaml"
    path.write_text(text)
    return path


def test_name_and_address_come_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "name: agents\nredis: {url: '${SOME_URL:-redis://h:1/2}'}\n")
    assert read_server_file(path) == ("redis://h:1/2", "agents")
    monkeypatch.setenv("SOME_URL", "redis://other")
    assert read_server_file(path) == ("redis://other", "agents")
    monkeypatch.setenv("FLOWCRAFT__NAME", "mine")
    monkeypatch.setenv("FLOWCRAFT__REDIS__URL", "redis://third")
    assert read_server_file(path) == ("redis://third", "mine")


def test_both_clients_are_made_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, "name: agents\nredis: {url: redis://h:1/2}\n")
    assert repr(Client.from_config(path)) == "<Client of agents at redis://h:1/2>"
    assert repr(AsyncClient.from_config(str(path))) == "<AsyncClient of agents at redis://h:1/2>"


@pytest.mark.parametrize("data_dir", [None, "elsewhere", "${SOME_DIR:-elsewhere}"])
def test_an_embedded_store_is_found_beside_the_file(tmp_path: Path, data_dir: str | None) -> None:
    text = "redis: {url: 'embedded:'}\n" if data_dir is None else f"redis: {{dataDir: '{data_dir}'}}\n"
    path = write(tmp_path, text)
    folder = tmp_path / (".flowcraft/data" if data_dir is None else "elsewhere")
    with pytest.raises(ConfigurationError, match="is not running; start it with `flowcraft-server dev`"):
        read_server_file(path)
    folder.mkdir(parents=True)
    (folder / "store.sock").touch()
    assert read_server_file(path) == (f"unix://{folder}/store.sock", "flowcraft")
    short = tmp_path / "s.sock"
    short.touch()
    (folder / "socket").write_text(f"{short}\n")
    assert read_server_file(path)[0] == f"unix://{short}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("redis: [", "flowcraft.yaml: while parsing"),
        ("- a\n", "expected a mapping"),
        ("redis: here\n", "redis: expected a mapping with a url"),
        ("redis: {url: '${NOT_SET_ANYWHERE}'}\n", "environment variable NOT_SET_ANYWHERE is not set"),
        ("redis: {url: 'ftp://h'}\n", "expected an address"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Client.from_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Client.from_config(tmp_path / "flowcraft.yaml")
