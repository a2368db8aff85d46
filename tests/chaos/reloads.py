"""A server that reloads again and again under load: `python -m tests.chaos.reloads`.

Fifty blueprints are written anew, one of them wrong each time, while runs of all of them are started; with each second reload the
handler code changes, too, and the worker processes are replaced. No run may fail, and none may have nodes of two plans.

Variables: FLOWCRAFT_CHAOS_RELOADS (20), FLOWCRAFT_CHAOS_BLUEPRINTS (50).
"""

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowcraft_sdk import Client, Handle
from flowcraft_server.store.embedded import EmbeddedStore
from tests.acceptance.server_program import Server, end_all, eventually, run_command

NAMESPACE = "reloads"
STAMPS = 3
AHEAD = 200
"""Runs under way at most."""

CODE = """
CODE = {code}

def stamp(ctx):
    return {{"plans": [*(ctx.input or {{"plans": []}})["plans"], ctx.params["version"]], "code": CODE}}
"""


@dataclass
class Reloads:
    """What happened.

    Attributes:
        runs: how many there were.
        failed: ids of those that did not complete.
        mixed: ids of those with nodes of two plans.
        versions: of plans, of those runs.
        codes: versions of the handler code that finished them.
        seconds: how long each reload took.
        wrong: reloads that did not do what they should.
    """

    runs: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of it is a fault."""
        return not (self.failed or self.mixed or self.wrong)


def write_blueprints(folder: Path, count: int, version: str, wrong: int | None = None) -> None:
    """All blueprints in a version; one of them with a mistake."""
    for number in range(count):
        nodes = [
            f"  n{place}: {{uses: stamp, params: {{version: {version}}}{f', needs: [n{place - 1}]' if place else ''}}}"
            for place in range(STAMPS)
        ]
        text = "\n".join(["nodes:", *nodes, f"outputs: {{last: n{STAMPS - 1}}}"])
        (folder / "flows" / f"b{number}.yaml").write_text("nodes: [" if number == wrong else text)


def reload_under_load(folder: Path, url: str, reloads: int, blueprints: int) -> Reloads:
    """Reload so often, and judge the runs of that time.

    Args:
        folder: empty; the deployment's.
        url: of Redis.
    """
    (folder / "flows").mkdir(parents=True)
    (folder / "flowcraft.yaml").write_text(
        f"name: {NAMESPACE}\nhandlers: {{stamp: reloaded_work:stamp}}\nblueprints: {{dirs: [flows]}}\n"
        'executor: {workers: 2, processes: 2, lease: 30s}\nredis: {url: "${REDIS_URL}"}\napi: {enabled: false}\n'
        "retention: {completed: {age: forever, count: forever}, bytes: forever}\n"
    )
    (folder / "reloaded_work.py").write_text(CODE.format(code=0))
    write_blueprints(folder, blueprints, "v0")
    server = Server(folder, "run", environ={"REDIS_URL": url})
    assert eventually(lambda: server.printed.count(f"serving '{NAMESPACE}'") == 3, 60), server.printed
    found, over = Reloads(), threading.Event()
    with Client(url, namespace=NAMESPACE) as client:
        started: list[Handle[Any]] = []

        def start_runs() -> None:
            while not over.is_set():
                started.append(client.start(f"b{len(started) % blueprints}"))
                if len(started) >= AHEAD:
                    started[len(started) - AHEAD].wait(timeout=120)

        starter = threading.Thread(target=start_runs)
        starter.start()
        try:
            for number in range(1, reloads + 1):
                write_blueprints(folder, blueprints, f"v{number}", wrong=number % blueprints)
                if number % 2 == 0:
                    (folder / "reloaded_work.py").write_text(CODE.format(code=number))
                began = time.monotonic()
                answer = run_command(folder, "reload", "--json", REDIS_URL=url)
                found.seconds.append(time.monotonic() - began)
                _look_at(answer.stdout, blueprints, number, found)
        finally:
            over.set()
            starter.join(120)
        for run in started:
            _judge(run, found)
    return found


def _look_at(printed: str, blueprints: int, number: int, found: Reloads) -> None:
    """Whether a reload published all blueprints but the wrong one, and replaced the processes whose code had changed."""
    (answer,) = json.loads(printed)
    published = answer["lines"][0].count("@")
    replaced = "2 of 2 worker processes replaced" in answer["lines"]
    mistakes = [line for line in answer["lines"] if f"b{number % blueprints}.yaml:1:" in line]
    # The file that was wrong at the reload before is right again.
    if not (answer["done"] and published == blueprints - 1 and len(mistakes) == 1 and replaced is (number % 2 == 0)):
        found.wrong.append(answer["lines"])


def _judge(run: Handle[Any], found: Reloads) -> None:
    found.runs += 1
    snapshot = run.wait(timeout=120)
    if snapshot.status != "completed":
        found.failed.append(run.run_id)
        return
    last = run.result(timeout=0)["last"]
    if len(last["plans"]) != STAMPS or len(set(last["plans"])) != 1:
        found.mixed.append(run.run_id)
    found.versions.add(last["plans"][0])
    found.codes.add(last["code"])


def main() -> int:
    """Reload, and print what came of it."""
    reloads = int(os.environ.get("FLOWCRAFT_CHAOS_RELOADS", "20"))
    blueprints = int(os.environ.get("FLOWCRAFT_CHAOS_BLUEPRINTS", "50"))
    with tempfile.TemporaryDirectory() as place, EmbeddedStore(Path(place) / "store") as store:
        folder = Path(place) / "deployment"
        try:
            found = reload_under_load(folder, store.url, reloads, blueprints)
        finally:
            end_all(folder)
    longest = max(found.seconds)
    print(
        f"{reloads} reloads of {blueprints} blueprints, the longest took {longest:.1f} s: {found.runs} runs of {len(found.versions)} plans"
        f" each and {len(found.codes)} versions of handler code; {len(found.failed)} failed, {len(found.mixed)} with nodes of two plans,"
        f" {len(found.wrong)} reloads went wrong"
    )
    for line in (*found.failed, *found.mixed, *found.wrong):
        print(line)
    return 0 if found.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
