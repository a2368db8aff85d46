"""What a shell is offered: commands, options, and ids of the deployment where it answers at once."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import BashComplete, get_completion_class

from flowcraft_server.cli import client_completion
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment

FLOWCRAFT = Path(sysconfig.get_path("scripts")) / "flowcraft"


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    blueprints = {
        "order": "description: An order.\nnodes:\n  ask: {uses: wait}\n",
        "other": "nodes:\n  ask: {uses: wait}\n",
    }
    with TestEnvironment(blueprints=blueprints, schedules={"nightly": {"blueprint": "order", "every": "1d"}}) as env:
        for run_id in ("order-1", "order-2", "bill-1"):
            env.client.start("order", run_id=run_id)
        yield env


def offered(env: TestEnvironment | None, *words: str) -> list[str]:
    """What is offered for the last word."""
    where = () if env is None else ("--url", env.url, "--namespace", env.namespace)
    found = BashComplete(main, {}, "flowcraft", "_FLOWCRAFT_COMPLETE").get_completions([*where, *words[:-1]], words[-1])
    return [item.value for item in found]


def test_ids_of_the_deployment_are_offered(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        client_completion, "KEY_PRESS_TIMEOUT", 30.0
    )  # what is asked is the point, not how quickly it answers
    assert sorted(offered(env, "show", "")) == ["bill-1", "order-1", "order-2"]
    assert sorted(offered(env, "run", "watch", "order")) == ["order-1", "order-2"]
    assert offered(env, "start", "or") == ["order"]
    assert offered(env, "blueprint", "show", "ot") == ["other"]
    assert offered(env, "list", "--blueprint", "o") == ["order", "other"]
    assert offered(env, "schedule", "pause", "") == ["nightly"]
    assert offered(env, "queue", "pause", "d") == ["default"]
    assert offered(env, "start", "order", "--id", "") == []  # a run that is not there yet


def test_words_are_offered_without_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FLOWCRAFT_REDIS_URL", "REDIS_URL", "FLOWCRAFT_SERVER"):
        monkeypatch.delenv(name, raising=False)
    assert offered(None, "wat") == ["watch"]
    assert "--follow" in offered(None, "logs", "--f")
    assert offered(None, "list", "--status", "fail") == ["failed"]
    assert offered(None, "show", "") == []
    assert offered(None, "--url", "redis://127.0.0.1:1/0", "show", "") == []  # nothing answers there
    assert offered(None, "--server", "http://127.0.0.1:1", "show", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_of_the_shell_and_the_program_answers_it(env: TestEnvironment, shell: str) -> None:
    script = subprocess.run([FLOWCRAFT, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert f"_FLOWCRAFT_COMPLETE={shell}_complete" in script
    words = f"flowcraft --url {env.url} --namespace {env.namespace} show order-"
    asked = {
        **os.environ,
        "_FLOWCRAFT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": "6" if shell != "fish" else "order-",
    }
    answer = subprocess.run([FLOWCRAFT], env=asked, capture_output=True, text=True, check=True).stdout
    assert "order-1" in answer
    assert "bill-1" not in answer


ODD = [
    "a$(touch pwned)",
    "b`touch pwned`",
    "c'q",
    'd"q',
    "f*",
    "g;touch pwned",
    "h i",
    "j,k",
    "l\\m",
    "~n",
    "o{1,2}",
    "p!!",
    "q&r<s",
    "\u00e4(\u00fc)",
]
DESCRIPTION = "An order.\nplain\n$(touch pwned)\n_\nof \x1b[2J two: lines"


@pytest.fixture(scope="module")
def odd() -> Iterator[TestEnvironment]:
    blueprints = {
        name: {"description": DESCRIPTION, "nodes": [{"id": "a", "uses": "wait"}], "edges": []} for name in ODD
    }
    with TestEnvironment(blueprints=blueprints) as env:
        yield env


def answer(env: TestEnvironment, shell: str, monkeypatch: pytest.MonkeyPatch, word: str = "") -> list[str]:
    """The lines that the script of a shell gets for the blueprint of `start`."""
    monkeypatch.setattr(client_completion, "KEY_PRESS_TIMEOUT", 30.0)
    kind = get_completion_class(shell)
    assert kind is not None
    asked = kind(main, {}, "flowcraft", "_FLOWCRAFT_COMPLETE")
    words = ["--url", env.url, "--namespace", env.namespace, "start"]
    monkeypatch.setattr(asked, "get_completion_args", lambda: (words, word))
    return asked.complete().split("\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_reads_an_offered_id_as_the_id(
    odd: TestEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = answer(odd, "bash", monkeypatch)
    offered = tmp_path / "offered"
    offered.write_text("\n".join(lines) + "\n")
    program = tmp_path / "flowcraft"
    program.write_text(f"#!/bin/sh\ncat {offered}\n")
    program.chmod(0o755)
    script = subprocess.run([FLOWCRAFT, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    # What a user does who takes a word and presses enter: the line is read with the word in it.
    script += """
COMP_WORDS=(flowcraft start ''); COMP_CWORD=2; COMPREPLY=()
_flowcraft_completion flowcraft
for word in "${COMPREPLY[@]}"; do eval "printf '%s\\n' $word"; done
"""
    (tmp_path / "script").write_text(script.replace("complete -o nosort", "true"))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    read = subprocess.run(
        ["bash", "--norc", str(tmp_path / "script")],
        cwd=tmp_path, env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(read.stdout.split("\n")[:-1]) == sorted(ODD), (lines, read)
    assert not (tmp_path / "pwned").exists()


def test_zsh_and_fish_get_one_word_for_each_id(odd: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = answer(odd, "zsh", monkeypatch)
    assert lines[0::3] == ["plain"] * len(ODD)
    assert sorted(lines[1::3]) == sorted(ODD)
    assert set(lines[2::3]) == {"An order. plain $(touch pwned) _ of \\x1b[2J two: lines"}
    words = [line.removeprefix("plain,").split("\t")[0] for line in answer(odd, "fish", monkeypatch)]
    assert sorted(words) == sorted(word for word in ODD if "," not in word)


def test_an_id_with_a_line_break_is_not_offered(odd: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        client_completion._BY_METAVAR, "BLUEPRINT", lambda _: [("x\nplain,$(touch pwned)", ""), ("y", "")]
    )
    monkeypatch.setattr(client_completion, "_blueprints", client_completion._BY_METAVAR["BLUEPRINT"])
    client_completion.complete_ids(main)
    try:
        assert answer(odd, "bash", monkeypatch) == ["plain,y"]
    finally:
        monkeypatch.undo()
        client_completion.complete_ids(main)
