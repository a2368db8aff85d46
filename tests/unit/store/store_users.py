"""Other processes that use an embedded store, and what tests ask about processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

USER = """
import sys
from flowcraft_server.store.embedded import EmbeddedStore
store = EmbeddedStore(sys.argv[1], durable=sys.argv[2] == "durable")
store.start()
print(store.pid, store.attached, flush=True)
sys.stdin.readline()
"""


class User:
    """Another process that uses the store of a folder."""

    def __init__(self, folder: Path, kind: str = "durable") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        pid, attached = self.process.stdout.readline().split()
        self.server, self.attached = int(pid), attached == "True"

    def leave(self) -> None:
        self.process.communicate("\n", timeout=20)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
