"""The `flowcraft-server` program as its users run it, over a small deployment of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.testing.environment import partitions_in_environment

FILE = """
name: acceptance
handlers:
  echo: deployed_work:echo
  slow: deployed_work:slow
  sleepy: deployed_work:sleepy
blueprints: {dirs: [flows]}
executor: {workers: 2, drainTimeout: 10s, lease: 1s}
redis: {url: "${REDIS_URL:-embedded:}", connectTimeout: 300ms}
"""

HANDLERS = '''
import asyncio, os, time
from pathlib import Path

def echo(ctx):
    return ctx.input

def slow(ctx):
    """Says that it runs, and runs until it is let go."""
    place = Path(ctx.params["place"])
    with (place / "began").open("a") as began:
        began.write(f"{os.getpid()}\\n")
    while not (place / "go").exists():
        time.sleep(0.01)
    return os.getpid()

async def sleepy(ctx):
    await asyncio.sleep(0.05)
    return "slept"
'''

BLUEPRINTS = {
    "chain.yaml": "nodes:\n  a: {uses: echo, inputs: x}\n  b: {uses: sleepy, needs: [a]}\n",
    "long.yaml": "nodes:\n  a: {uses: slow, params: {place: PLACE}}\n  b: {uses: echo, needs: [a]}\n",
}


def write_deployment(folder: Path, file: str = FILE) -> Path:
    """A deployment with a quick blueprint and one that waits to be let go."""
    (folder / "flows").mkdir(parents=True)
    (folder / "flowcraft.yaml").write_text(file)
    (folder / "deployed_work.py").write_text(HANDLERS)
    for name, text in BLUEPRINTS.items():
        (folder / "flows" / name).write_text(text.replace("PLACE", f'"{folder}"'))
    return folder


def server_environment(**variables: str) -> dict[str, str]:
    """This environment, with the modules that the tests see, and without what would set values."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("FLOWCRAFT") and name != "REDIS_URL"
    }
    if partitions_in_environment() > 1:
        inherited["FLOWCRAFT__REDIS__PARTITIONS"] = str(partitions_in_environment())
    inherited["FLOWCRAFT__API__ENABLED"] = "off"  # it would listen on one port for all tests
    return {**inherited, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}


_running: list["Server"] = []


def end_all(folder: Path) -> None:
    """End what a test that failed half way has left running, and the store of its folder."""
    while _running:
        server = _running.pop()
        server.process.kill()
        server.process.wait()
    data = folder / ".flowcraft" / "data"
    if data.exists():
        with EmbeddedStore(data) as store:  # whoever leaves the store last ends it
            assert store.url


class Server:
    """A running `flowcraft-server`.

    Args:
        folder: the deployment's folder.
        arguments: the command and its options.
        environ: variables for it.
    """

    def __init__(self, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flowcraft_server.cli.server", *arguments],
                cwd=folder,
                env=server_environment(**(environ or {})),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        _running.append(self)

    @property
    def printed(self) -> str:
        """All that it printed and logged."""
        return self.output.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Wait until it has shown something."""
        assert eventually(lambda: text in self.printed or self.process.poll() is not None, seconds), self.printed
        assert text in self.printed, self.printed

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self, seconds: float = 20.0) -> int:
        """Its exit code, within some seconds."""
        return self.process.wait(seconds)


def run_command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "flowcraft_server.cli.server", *arguments],
        cwd=folder,
        env=server_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether a condition holds within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be buried does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
