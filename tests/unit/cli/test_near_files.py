"""A file that is not there brings the one that may be meant, whichever command or function it is given to."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowcraft_server.blueprints.loading.loader import load_file
from flowcraft_server.cli.client import main as client
from flowcraft_server.cli.server import main as server
from flowcraft_server.testing import TestEnvironment


@pytest.fixture(autouse=True)
def _deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blueprints").mkdir()
    (tmp_path / "blueprints" / "support.yaml").write_text("nodes: {a: {uses: echo}}\n")
    (tmp_path / "flowcraft.yaml").write_text("handlers: {echo: 'json:dumps'}\nblueprints: {dirs: [blueprints]}\n")
    (tmp_path / "input.json").write_text("{}")


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("exec support", "blueprints/support.yaml"),
        ("exec suport.yaml", "blueprints/support.yaml"),
        ("exec blueprints/suport.yaml", "blueprints/support.yaml"),
        ("eval flowcrft.yaml", "flowcraft.yaml"),
        ("restore inputs.json", "input.json"),
        ("start b -f imput.json", "input.json"),
        ("blueprint check blueprints/supprt.yaml", "blueprints/support.yaml"),
        ("test blueprints/supprt.yaml", "blueprints/support.yaml"),
    ],
)
def test_the_near_file_is_named(command: str, meant: str) -> None:
    done = CliRunner().invoke(client, command.split())
    assert done.exit_code == 2
    assert f"did you mean '{meant}'?" in done.output


def test_a_deployments_file() -> None:
    done = CliRunner().invoke(server, ["check", "-c", "flowcrft.yaml"])
    assert (done.exit_code, done.output.splitlines()[0]) == (
        2,
        "flowcrft.yaml: no such file; did you mean 'flowcraft.yaml'?",
    )


def test_nothing_is_suggested_that_is_not_alike() -> None:
    done = CliRunner().invoke(client, ["exec", "orders.yaml"])
    assert done.output.endswith("File 'orders.yaml' does not exist.\n")
    assert str(load_file("nowhere/at/all.yaml")[1][0]).endswith("cannot be read: No such file or directory")


def test_blueprints_of_an_environment() -> None:
    with pytest.raises(ValueError, match=re.escape("did you mean 'blueprints/support.yaml'?")):
        TestEnvironment(blueprints=Path("blueprints/suport.yaml"), workers=0).__enter__()


def test_a_file_that_was_given_without_its_option() -> None:
    done = CliRunner().invoke(server, ["check", "flowcraft.yaml"], prog_name="flowcraft-server")
    assert done.exit_code == 2
    assert "the file of the deployment is written -c flowcraft.yaml;" in done.output
    assert "flowcraft blueprint check flowcraft.yaml" in done.output
