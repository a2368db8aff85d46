"""Files that users name are read only if they are files, and only as far as they should go."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowcraft_sdk import Client, ConfigurationError
from flowcraft_sdk._config.regular_file import read_regular_file
from flowcraft_server.blueprints.loading.loader import load_file
from flowcraft_server.cli.client import main
from flowcraft_server.config.load import load_config


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


ODD = pytest.mark.parametrize("make", [fifo, device, folder, huge], ids=lambda make: make.__name__)


def test_as_much_as_allowed_and_one_byte_more(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert read_regular_file(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="it is larger than"):
        read_regular_file(path, 99)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "none", 1)


@ODD
def test_flowcraft_yaml(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "flowcraft.yaml")
    diagnostics = load_config(tmp_path / "flowcraft.yaml").diagnostics
    assert len(diagnostics) == 1 and "cannot be read" in diagnostics[0].message
    with pytest.raises(ConfigurationError):
        Client.from_config(tmp_path / "flowcraft.yaml")


@ODD
def test_what_it_names(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "secret")
    (tmp_path / "flowcraft.yaml").write_text('redis: {url: "${file:secret}"}\nname: x\n')
    diagnostics = load_config(tmp_path / "flowcraft.yaml").diagnostics
    assert any("file secret cannot be read" in diagnostic.message for diagnostic in diagnostics)
    with pytest.raises(ConfigurationError, match="file secret cannot be read"):
        Client.from_config(tmp_path / "flowcraft.yaml")


@pytest.mark.parametrize("make", [fifo, device, huge], ids=lambda make: make.__name__)
def test_the_environment_beside_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "flowcraft.yaml").write_text("name: x\n")
    make(tmp_path / ".env")
    assert any(".env" in diagnostic.message for diagnostic in load_config(tmp_path / "flowcraft.yaml").diagnostics)
    with pytest.raises(ConfigurationError, match=r"\.env"):
        Client.from_config(tmp_path / "flowcraft.yaml")


@ODD
def test_blueprints_and_what_they_include(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "b.yaml")
    found, diagnostics = load_file(tmp_path / "b.yaml")
    assert found is None and "cannot be read" in diagnostics[0].message
    make(tmp_path / "prompt.txt")
    (tmp_path / "c.yaml").write_text("nodes: {a: {uses: x, params: {p: !include prompt.txt}}}\n")
    assert any("!include 'prompt.txt'" in diagnostic.message for diagnostic in load_file(tmp_path / "c.yaml")[1])


def test_one_mistake_behind_thousands_of_aliases_is_reported_a_few_times(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    nodes = "".join(f"  n{i}: *bad\n" for i in range(4_000))
    path.write_text("x-bad: &bad {uses: x, config: {maxRetries: none}}\nnodes:\n" + nodes)
    _, diagnostics = load_file(path)
    assert len([diagnostic for diagnostic in diagnostics if "maxRetries" in diagnostic.path]) <= 10


@ODD
@pytest.mark.parametrize("command", [["start", "b"], ["signal", "r"]])
def test_what_the_command_line_names(make: Callable[[Path], None], command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    make(path)
    done = CliRunner().invoke(main, ["--url", "redis://h", *command, "-f", str(path)])
    assert done.exit_code == 2
    assert "input.json" in done.stderr


def test_standard_input_has_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.cli.client_input.LARGEST_INPUT", 10)
    done = CliRunner().invoke(main, ["--url", "redis://h", "start", "b", "-f", "-"], input="[" * 11)
    assert done.exit_code == 2
    assert "standard input: it is larger than" in done.stderr
