"""`flowcraft --server`: each command does over HTTP what it does through Redis."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowcraft_sdk import RunStatus
from flowcraft_server.api.access import Role, Token
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment
from tests.api_server import serving
from tests.engine.test_four_clients import BLUEPRINTS, HANDLERS

Flowcraft = Callable[..., Result]
TOKENS = tuple(Token(f"{role}er", role, f"{role}-token-0123456789") for role in Role)
ADMIN, VIEWER = "admin-token-0123456789", "view-token-0123456789"


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=HANDLERS, check=False) as env:
        yield env


@pytest.fixture(scope="module")
def address(env: TestEnvironment) -> Iterator[str]:
    with serving(env, tokens=TOKENS) as address:
        yield address


@pytest.fixture
def remote(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowcraft:
    """`flowcraft` with the address and the token in the environment, in a folder without a deployment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWCRAFT_SERVER", address)
    monkeypatch.setenv("FLOWCRAFT_TOKEN", ADMIN)
    monkeypatch.setenv("FLOWCRAFT_REDIS_URL", "redis://localhost:1/0")
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.fixture
def local(env: TestEnvironment) -> Flowcraft:
    return lambda *arguments: CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments])


def alike(text: str) -> str:
    """What a command prints, without the time it took and ids that are made."""
    return re.sub(r"\d+(\.\d+)?( ?ms| ?s\b|s ago)|\d{4}-\d\d-\d\d[T ][\d:.+Z]*|\b[0-9a-f]{28}\b", "~", text)


def test_a_run_by_its_commands(remote: Flowcraft, env: TestEnvironment) -> None:
    assert remote("start", "parent", "--id", "cli-1", "--tag", "cli").stdout == "cli-1\n"
    env.client.get_handle("cli-1").wait_for(RunStatus.WAITING, timeout=60)
    assert remote("start", "nope").exit_code == 3
    assert remote("result", "cli-1", "--timeout", "0").exit_code == 4
    refused = remote("signal", "cli-1", "-i", "by=3", "--action", "yes")
    assert (refused.exit_code, "expected string" in refused.stderr) == (2, True)
    assert remote("signal", "cli-1", "-i", "by=ada", "--action", "yes").exit_code == 0
    assert json.loads(remote("result", "cli-1", "--json").stdout)["output"]["sub"]["done"] == {"by": "ada"}
    assert remote("status", "cli-1").stdout == "completed\n"
    assert json.loads(remote("rerun", "cli-1", "--id", "cli-2", "--json").stdout)["run_id"] == "cli-2"
    assert remote("cancel", "cli-2", "--reason", "no").exit_code == 0
    assert remote("result", "cli-2").exit_code == 1
    assert json.loads(remote("start", "echo", "-i", "value=7", "--wait").stdout)["say"] == 7
    assert remote("rm", "cli-2", "--yes").exit_code == 0
    assert remote("show", "cli-2").exit_code == 3


def test_commands_print_the_same_over_http(remote: Flowcraft, local: Flowcraft) -> None:
    remote("start", "flaky", "--id", "same", "-i", "a=1", "-i", "b=bad", "--tag", "same", "--wait")
    version = json.loads(local("blueprint", "list", "--published", "--json").stdout)[0]["version"]
    for command in (
        "show same --ctx --attempts", "show same --json", "list --tag same", "list --tag same --json", "events same", "logs same",
        "watch same", "result same", "rerun --tag same --dry-run", "blueprint list --published", "blueprint show flaky --json",
        f"blueprint show approval@{version[:6]} --json", "blueprint diff approval echo", "queue list", "worker list --json", "dlq list",
        "schedule list", "schedule show none", "doctor", "dlq drop --all --yes", "queue pause slow", "queue resume slow",
        "show none", "send same nope -i a=1", "rerun same --from nope", "blueprint show approval@00000000",
    ):  # fmt: skip
        there, here = remote(*command.split()), local(*command.split())
        assert there.exit_code == here.exit_code, (command, there.output)
        assert alike(there.output) == alike(here.output), command


def test_what_a_token_may_not_do_is_one_line(remote: Flowcraft, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWCRAFT_SERVER")
    monkeypatch.delenv("FLOWCRAFT_TOKEN")
    for token, command, exit_code, said in (
        (VIEWER, ("list",), 0, ""),
        (VIEWER, ("start", "echo", "-i", "value=1"), 2, "this needs the role operate"),
        ("wrong", ("list",), 2, "the token is none of this deployment's"),
    ):
        found = remote(*command, "--server", address, "--token", token)
        assert (found.exit_code, len(found.stderr.splitlines())) == (exit_code, bool(said)), found.output
        assert said in found.stderr
        assert token not in found.output
    found = remote("list", "--server", "http://127.0.0.1:1", "--json")
    assert json.loads(found.stderr)["error"]["type"] == "BackendUnavailableError"


def test_options_that_exclude_each_other(remote: Flowcraft, env: TestEnvironment) -> None:
    for arguments, said in (
        (("backup", "all.jsonl", "--server", "http://h"), "a backup is read from Redis"),
        (("list", "--server", "http://h", "--url", "redis://h"), "--server and --url exclude each other"),
        (("list", "--url", env.url, "--token", "t"), "--token goes with --server"),
        (("test", "--server", "http://h"), "--server has no part in it"),
        (("list", "--server", "redis://h"), "expected http://HOST:PORT or https://HOST"),
    ):
        found = remote(*arguments)
        assert (found.exit_code, said in found.stderr) == (2, True), found.output
    assert remote("list", "--url", env.url, "--namespace", env.namespace).exit_code == 0, "what is given counts first"
