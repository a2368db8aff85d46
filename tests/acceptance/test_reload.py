"""`flowcraft-server reload` and `drain`, SIGHUP, and handler code that changes under a server."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_sdk import Client
from flowcraft_server.store.embedded import EmbeddedStore
from tests.acceptance.server_program import Server, end_all, eventually, run_command, write_deployment

TIMEOUT = 60.0
WAIT = 40.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield write_deployment(tmp_path / "deployment")
    end_all(tmp_path / "deployment")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedStore(tmp_path / "store") as store:
        yield store.url


def began(folder: Path) -> list[int]:
    """Processes in which `slow` has begun."""
    return [int(line) for line in (folder / "began").read_text().split()] if (folder / "began").exists() else []


def test_a_server_reloads_and_drains(folder: Path, url: str) -> None:
    """Blueprints by request and by SIGHUP, code by fresh worker processes; the run under way keeps its process and plan."""
    server = Server(folder, "run", "--processes", "2", environ={"REDIS_URL": url, "FLOWCRAFT__EXECUTOR__LEASE": "30s"})
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 3, WAIT), server.printed
    chain, code = folder / "flows" / "chain.yaml", folder / "deployed_work.py"
    with Client(url, namespace="acceptance") as client:
        long = client.start("long")
        assert eventually(lambda: bool(began(folder)))
        (process,) = began(folder)

        chain.write_text("nodes:\n  a: {uses: echo, inputs: x}\n  c: {uses: echo, inputs: x}\n")
        (folder / "flows" / "bad.yaml").write_text("nodes:\n  a: {uses: nobody}\n")
        answer = run_command(folder, "reload", REDIS_URL=url)
        assert answer.returncode == 1, answer.stderr
        assert "published chain@" in answer.stdout
        assert "flows/bad.yaml:2:13" in answer.stdout
        assert "flows/bad.yaml:2:13" in server.printed
        (mistake,) = client.admin.servers()[0].mistakes
        assert "nobody" in mistake
        assert client.execute("chain", {"x": 1}, timeout=TIMEOUT)["c"] == 1

        (folder / "flows" / "bad.yaml").unlink()
        code.write_text(code.read_text() + "\nimport nothing_of_that_name\n")
        server.signal(signal.SIGHUP)
        server.wait_for("cannot import 'deployed_work'", WAIT)
        server.wait_for("the worker processes keep the code", WAIT)
        assert client.execute("chain", {"x": 2}, timeout=TIMEOUT)["c"] == 2

        text = code.read_text().replace("import nothing_of_that_name\n", "")
        code.write_text(text.replace("return ctx.input\n", "return [ctx.input]\n"))
        answer = run_command(folder, "reload", "--json", REDIS_URL=url)
        assert answer.returncode == 0, answer.stdout
        (found,) = json.loads(answer.stdout)
        assert "2 of 2 worker processes replaced" in found["lines"]
        assert client.execute("chain", {"x": 3}, timeout=TIMEOUT)["c"] == [3]

        os.kill(process, 0)  # it still finishes what it runs
        (folder / "go").touch()
        assert long.result(timeout=TIMEOUT)["a"] == process

        first, second = client.admin.servers()[0].workers
        (answered,) = client.admin.drain(first, timeout=WAIT)
        assert answered.ok
        assert answered.done
        assert client.admin.servers()[0].workers == (second,)
    drained = run_command(folder, "drain", REDIS_URL=url)
    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert "drained: all that ran has finished" in drained.stdout
    assert server.ends() == 0
    assert "no server process of 'acceptance' was seen lately" in run_command(folder, "reload", REDIS_URL=url).stderr


def test_dev_watches_its_files(folder: Path) -> None:
    server = Server(folder, "dev")
    server.wait_for("serving 'acceptance'", WAIT)
    (folder / "flows" / "chain.yaml").write_text("nodes:\n  a: {uses: echo, inputs: x}\n")
    server.wait_for("published chain@")
    file = folder / "flowcraft.yaml"
    text = file.read_text()
    with Client.from_config(file) as client:
        file.write_text(f"{text}schedules: {{s: {{blueprint: chain, every: 1s, input: {{x: 1}}}}}}\n")
        assert eventually(lambda: any(info.starts for info in client.schedules.list()), WAIT)
        file.write_text(f"{text}schedules: {{t: {{blueprint: nowhere, every: 1s}}}}\n")
        server.wait_for("schedules.t.blueprint: no blueprint 'nowhere'", WAIT)
        assert [info.id for info in client.schedules.list()] == ["s"], "what was before stays"
        file.write_text(text)
        assert eventually(lambda: not client.schedules.list(), WAIT)
    code = folder / "deployed_work.py"
    code.write_text(code.read_text() + "\ndef f(:\n")
    server.wait_for("SyntaxError", WAIT)
    code.write_text(code.read_text().replace("\ndef f(:\n", "").replace("return ctx.input", "return [ctx.input]"))
    server.wait_for("starting again, for what has changed: handler code (deployed_work.py)", WAIT)
    assert eventually(lambda: server.printed.count("serving 'acceptance'") == 2, WAIT)
    with Client.from_config(folder / "flowcraft.yaml") as client:
        assert client.execute("chain", {"x": 1}, timeout=TIMEOUT)["a"] == [1]
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
