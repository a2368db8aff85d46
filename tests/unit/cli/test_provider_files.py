"""Files of scripted and recorded replies: what is wrong with them is found by `check`, and by what runs without a server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowcraft_server.cli.client import main as client
from flowcraft_server.cli.server import main as server

HEAD = '{"flowcraft": "recordings", "version": 1}\n'
EXCHANGE = '{"request": {"model": "m"}, "response": {"contentType": "application/json", "body": "{}"}}\n'


@pytest.fixture(autouse=True)
def _deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo.yaml").write_text("nodes: {a: {uses: echo}}\n")
    (tmp_path / "flowcraft.yaml").write_text(
        "handlers: {echo: 'json:dumps'}\n"
        "llm: {default: tape, providers: {tape: {type: recorded, file: tape.jsonl, apiKey: k, model: m}}}\n"
    )


@pytest.mark.parametrize(
    ("text", "announced"),
    [
        (HEAD + EXCHANGE + '{"broken\n', "tape.jsonl:3: is no recorded exchange"),
        ("hello\n", "tape.jsonl:1: is no recorded exchange"),
        ('{"flowcraft": "recordings", "version": 9}\n', "tape.jsonl:1: version 9 of the format"),
        (None, "tape.jsonl: cannot be read: Is a directory"),
    ],
)
def test_a_broken_file_of_recordings_is_found(text: str | None, announced: str) -> None:
    if text is None:
        Path("tape.jsonl").mkdir()
    else:
        Path("tape.jsonl").write_text(text)
    found = CliRunner().invoke(server, ["check", "--offline"])
    assert found.exit_code == 2
    assert "flowcraft.yaml:2:63   llm.providers.tape.file: " in found.stdout + found.stderr
    assert announced in found.stdout + found.stderr

    found = CliRunner().invoke(client, ["exec", "echo.yaml"])
    assert found.exit_code == 2
    assert announced in found.stderr
    assert "Usage:" not in found.stderr  # the command line is right

    found = CliRunner().invoke(client, ["--json", "exec", "echo.yaml"])
    assert announced in json.loads(found.stderr)["error"]["message"]


@pytest.mark.parametrize("text", [HEAD + EXCHANGE, HEAD, "", None])
def test_a_file_of_recordings_that_is_right_or_not_there_yet_is_no_mistake(text: str | None) -> None:
    if text is not None:
        Path("tape.jsonl").write_text(text)
    found = CliRunner().invoke(server, ["check", "--offline"])
    assert found.exit_code == 0, found.stderr
