"""`flowcraft` with no Redis that answers, and with more than it takes: one line each, exit code 2."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from flowcraft_server.cli.client import main

NOWHERE = "redis://127.0.0.1:1/0"
ASKED = {
    "start b": "start a run",
    "start b --wait": "start a run",
    "status r": "read the run's status",
    "result r": "wait for the run",
    "cancel r": "cancel the run",
    "cancel --tag t --yes": "count runs",
    "rerun r --failed": "do the run again",
    "rm r --yes": "delete the run",
    "rm --status failed": "count runs",
    "events r": "read the run's events",
    "watch r": "read the run's events",
    "logs r": "read what the run has logged",
    "stream r n": "follow what the node streams",
    "backup file": "read a backup",
    "signal r n": "signal the run",
    "send r n": "send the message",
    "list": "list runs",
    "list --status failed --tag t --blueprint b": "list runs",
    "show r": "describe the run",
    "blueprint list --published": "list blueprints",
    "blueprint show b@published": "list blueprints",
    "blueprint diff b@published c@published": "list blueprints",
    "queue list": "list queues",
    "queue limits": "list limits",
    "queue pause q": "change the queue",
    "queue resume q": "change the queue",
    "dlq list": "list dead letters",
    "dlq replay r": "replay the run",
    "dlq drop r --yes": "delete dead letters",
    "dlq drop --all --yes": "list dead letters",
    "memory list": "list memories",
    "memory show m": "read the memory",
    "memory delete m --yes": "delete the memory",
    "usage": "read what model calls have used",
    "worker list": "list workers",
    "worker drain w": "drain servers",
    "schedule list": "list schedules",
    "schedule show s": "read the schedule",
    "schedule pause s": "change the schedule",
    "schedule resume s": "change the schedule",
    "schedule trigger s": "start a run of the schedule",
    "schedule delete s --yes": "read the schedule",
    "doctor": "examine runs",
    "doctor r --fix": "examine runs",
}
WITHOUT_REDIS = {"blueprint check", "completion", "eval", "exec", "init", "restore", "test"}
"""Of `restore` the file comes first."""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))  # where no flowcraft.yaml is


def called(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--url", NOWHERE, "--namespace", "n", *arguments])


@pytest.mark.parametrize("words", list(ASKED))
def test_a_command_names_what_was_asked_for(words: str) -> None:
    result = called(*words.split())
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"cannot {ASKED[words]}: Redis at {NOWHERE} does not answer")
    assert not any(word.isupper() and len(word) > 3 for word in line.replace(":", " ").split())
    assert result.stdout == ""


def test_every_command_is_asked_for() -> None:
    known = set(commands(main))
    asked = {next(name for name in known if f"{words} ".startswith(f"{name} ")) for words in ASKED}
    assert known - asked == WITHOUT_REDIS


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if name == "run":
            continue  # its commands are those beside it
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    "words",
    [
        ["start", "x" * 201],
        ["start", "b", "--id", "x" * 201],
        ["start", "b", "--tag", "x" * 201],
        ["start", "b", *(word for number in range(101) for word in ("--tag", f"t{number}"))],
        ["start", "b", *(word for number in range(10_001) for word in ("-i", f"k{number}=1"))],
        ["start", "b", "-i", f"{'k' * 1_001}=1"],
        ["start", "b", "--wait", "--timeout", "99999999d"],
        ["result", "r", "--timeout", "1e300"],
        ["result", "r", "--timeout", "inf"],
        ["result", "r", "--timeout", "nan"],
        ["result", "r", "--timeout", "9" * 5_000],
        ["result", "x" * 2_001],
        ["cancel", "r", "--reason", "x" * 1_001],
        ["cancel", "r", "--grace", "1e12"],
        ["signal", "r", "x" * 2_001],
        ["signal", "r", "n", "--action", "x" * 201],
        ["signal", "r", "n", "--id", "x" * 201],
        ["list", "--tag", "x" * 201],
        ["list", "--blueprint", "x" * 201],
        ["dlq", "list", "--limit", "1000001"],
        ["dlq", "replay", "x" * 2_001],
        ["dlq", "drop", "r", "--node", "x" * 2_001, "--yes"],
        ["doctor", "x" * 2_001],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_more_than_a_command_takes(words: list[str]) -> None:
    result = called(*words)
    assert result.exit_code == 2
    printed = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(printed) == 1
    assert len(printed[0]) < 400
    assert "does not answer" not in printed[0]
