"""Every command of both programs as it is installed: its help, and what it is for, on one deployment."""

import os
import re
import shlex
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from flowcraft_server.cli import client, server
from flowcraft_server.cli.examples import commands_of
from flowcraft_server.store.embedded import EmbeddedStore
from tests.acceptance.server_program import eventually, server_environment

pytestmark = pytest.mark.xdist_group("installed commands")  # one deployment for all
BIN = Path(sysconfig.get_path("scripts"))
PROGRAMS: dict[str, click.Group] = {"flowcraft": client.main, "flowcraft-server": server.main}

FILES = {
    "flowcraft.yaml": """
name: installed
handlers: {echo: "work:echo", fails: "work:fails", dies: "work:dies", listens: "work:listens"}
blueprints: {dirs: [flows]}
executor: {processes: 2, workers: 2, lease: 10s, maxCrashes: 1, drainTimeout: 10s}
redis: {url: "${REDIS_URL}"}
limits: {named: {few: {maxConcurrent: 2}}}
llm: {default: script, providers: {script: {type: scripted, file: replies.yaml}}}
schedules: {nightly: {blueprint: hello, cron: "0 3 * * *", input: {name: Ada}}}
""",
    "work.py": """
import os

def echo(ctx):
    ctx.logger.info("greets")
    ctx.stream_text("Good day")
    return ctx.input

def fails(ctx):
    raise ValueError("card declined")

def dies(ctx):
    os._exit(3)

def listens(ctx):
    return ctx.receive(60)
""",
    "replies.yaml": "replies: [{match: Ada, reply: Good day}]\ndefault: none\n",
    "cases.yaml": "blueprint: desk\ncases: [{name: greets, input: {question: Ada asks}, expect: {output: {clerk: Good day}}}]\n",
    "flows/hello.yaml": """
inputs: {name: string}
outputs: {greeting: greet}
nodes: {greet: {uses: echo, inputs: name}}
tests: [{name: greets, input: {name: Ada}, expect: {output: {greeting: Ada}}}]
""",
    "flows/asks.yaml": "nodes: {ask: {uses: wait}}\n",
    "flows/fails.yaml": "nodes: {bad: {uses: fails}}\n",
    "flows/dies.yaml": "nodes: {bad: {uses: dies}}\n",
    "flows/listens.yaml": "nodes: {ear: {uses: listens}}\n",
    "flows/desk.yaml": "outputs: {clerk: clerk}\nnodes: {clerk: {uses: agent, inputs: question, params: {memory: {key: ada}}}}\n",
}

SCENES = {
    "files": """
flowcraft init new --example minimal -> flowcraft-server dev
flowcraft-server check -> schedule nightly
flowcraft-server config show -> maxCrashes
flowcraft-server schema blueprint -> "nodes"
flowcraft-server capacity --runs 20M/day --nodes 30 -> partitions
flowcraft test -> 1 passed
flowcraft exec flows/hello.yaml -i name=Ada -> Ada
flowcraft eval cases.yaml -> greets
flowcraft completion bash -> complete
flowcraft blueprint check flows/hello.yaml -> .
flowcraft blueprint diff flows/hello.yaml flows/asks.yaml -> greet
""",
    "runs": """
flowcraft start hello -i name=Ada --id one --wait -> Ada
flowcraft run status one -> completed
flowcraft status one -> completed
flowcraft result one -> Ada
flowcraft events one -> greet +completed
flowcraft watch one -> completed
flowcraft logs one -> greets
flowcraft stream one greet -> Good day
flowcraft show one -> greet
flowcraft list -> one +hello +completed
flowcraft start asks --id two -> two
flowcraft signal two ask -i by=Ada --buffer ->
flowcraft result two -> Ada
flowcraft start asks --id three -> three
flowcraft cancel three --reason late ->
flowcraft start fails --id four --wait ->1 card declined
flowcraft rerun four --failed --id five -> five
flowcraft result five ->1 card declined
flowcraft rm one --yes -> removed|deleted
flowcraft start listens --id six -> six
flowcraft send six ear -i text=faster ->
flowcraft result six -> faster
""",
    "agents": """
flowcraft start desk -i question='Ada asks' --id seven --wait -> Good day
flowcraft memory list -> desk:clerk/ada
flowcraft memory show desk:clerk/ada -> Ada asks
flowcraft memory delete desk:clerk/ada --yes -> deleted
flowcraft usage --by model -> script
""",
    "operations": """
flowcraft-server health -> worker
flowcraft blueprint list --published -> hello
flowcraft blueprint show hello --mermaid -> flowchart
flowcraft queue list -> default
flowcraft queue limits -> few
flowcraft queue pause default -> paused
flowcraft queue resume default -> resumed|runs
flowcraft schedule list -> nightly
flowcraft schedule trigger nightly -> .
flowcraft schedule pause nightly -> .
flowcraft schedule show nightly -> paused
flowcraft schedule resume nightly -> .
flowcraft schedule delete nightly --yes -> .
flowcraft start dies --id eight --wait ->1 died or stalled
flowcraft start dies --id nine --wait ->1 died or stalled
flowcraft dlq list -> eight
flowcraft dlq replay nine -> nine~replay
flowcraft dlq drop eight --yes -> 1
flowcraft doctor -> .
flowcraft backup all.ndjson -> .
flowcraft restore all.ndjson --dry-run -> .
flowcraft-server gc --dry -> .
flowcraft-server reload -> .
flowcraft worker list -> w
""",
}
"""What is typed, `->`, the exit code if it is not 0, and what it prints, as a regular expression; each scene stands by itself."""

SERVED = {
    "flowcraft worker drain",
    "flowcraft-server worker",
    "flowcraft-server api",
    "flowcraft-server run",
    "flowcraft-server drain",
}
"""Commands of the second test, which begins and ends processes; `dev` is in `test_first_minute`."""


class Place:
    """A folder with a deployment, and the installed programs in it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = server_environment(REDIS_URL=url) | {"PYTHONPATH": "", "COLUMNS": "80"}
        self.running: list[subprocess.Popen[str]] = []

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a command."""
        return subprocess.run(
            [str(BIN / words[0]), *words[1:]], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def serve(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command that runs until it is ended."""
        with (self.folder / f"{len(self.running)}.log").open("w") as output:
            process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]], cwd=self.folder, env=self.environment, stdout=output,
                stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.running.append(process)
        return process

    def is_up(self) -> bool:
        """Whether a worker is there."""
        return self.run("flowcraft-server", "health").returncode == 0

    def workers(self) -> list[str]:
        """Ids of the workers."""
        return re.findall(r'"id": "([^"]+)"', self.run("flowcraft", "worker", "list", "--json").stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("installed")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with EmbeddedStore(folder / "store", durable=False) as store:
        found = Place(folder, store.url)
        found.serve("flowcraft-server", "run")
        try:
            assert eventually(found.is_up, 60), (folder / "0.log").read_text()
            yield found
        finally:
            for process in found.running:
                process.terminate()
            for process in found.running:
                process.wait(60)


def test_help_of_every_command() -> None:
    asked = [(program, path) for program, main in PROGRAMS.items() for path, _ in commands_of(main)]
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": ""}

    def help_of(case: tuple[str, str]) -> tuple[int, str, str]:
        program, path = case
        command = [str(BIN / program), *path.split(), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(2) as threads:
        for (program, path), (code, printed, errors) in zip(asked, threads.map(help_of, asked), strict=True):
            assert (code, errors) == (0, ""), (program, path)
            assert printed.startswith(f"Usage: {program} {path} "), printed
            assert "Example" in printed, (program, path)


def test_every_command_is_in_a_scene() -> None:
    typed = {line.partition(" ->")[0] for scene in SCENES.values() for line in scene.strip().splitlines()}
    typed |= SERVED | {"flowcraft-server dev"}
    missing = []
    for program, main in PROGRAMS.items():
        for path, command in commands_of(main):
            if not isinstance(command, click.Group) and not path.startswith("run "):
                missing += [f"{program} {path}"] * (not any(f"{t} ".startswith(f"{program} {path} ") for t in typed))
    assert missing == []


@pytest.mark.parametrize("scene", list(SCENES))
def test_what_each_command_is_for(place: Place, scene: str) -> None:
    wrong = []
    for line in SCENES[scene].strip().splitlines():
        typed, _, wanted = line.partition(" ->")
        code, pattern = (1, wanted[1:]) if wanted.startswith("1") else (0, wanted)
        done = place.run(*shlex.split(typed))
        printed = done.stdout + done.stderr
        if done.returncode != code or not re.search(pattern.strip(), printed) or "Traceback" in printed:
            wrong.append(f"$ {typed}\n{printed}exit code {done.returncode}, expected {code} and /{pattern.strip()}/")
    assert not wrong, "\n\n".join(wrong)


def test_commands_that_begin_and_end_processes(place: Place) -> None:
    before = set(place.workers())
    worker = place.serve("flowcraft-server", "worker", "--processes", "1")
    assert eventually(lambda: len(set(place.workers()) - before) == 1, 60)
    (mine,) = set(place.workers()) - before
    done = place.run("flowcraft", "worker", "drain", mine)
    assert done.returncode == 0, done.stderr
    assert worker.wait(60) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = place.serve("flowcraft-server", "api", "--bind", f"127.0.0.1:{port}")
    remote = ("flowcraft", "--server", f"http://127.0.0.1:{port}", "start", "hello", "-i", "name=Eve", "--wait")
    assert eventually(lambda: "Eve" in place.run(*remote).stdout, 60)
    api.terminate()
    assert api.wait(60) == 0
    done = place.run("flowcraft-server", "drain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.running[0].wait(60) == 0
