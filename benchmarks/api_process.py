"""The HTTP API and the pages in a process of their own, as benchmarks measure them."""

import re
import subprocess
import sys
import time
from pathlib import Path


class Api:
    """The process.

    Args:
        url: of Redis.
        namespace: of the deployment.
        folder: for its configuration and its log.

    Attributes:
        process: the process.
        port: where it listens.
    """

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        (folder / "flowcraft.yaml").write_text(f"name: {namespace}\nhandlers: {{h: 'json:dumps'}}\n", "utf-8")
        log = folder / "log"
        command = [
            *(sys.executable, "-m", "flowcraft_server.cli.server"),
            *("api", "--bind", "127.0.0.1:0", "--redis", url),
        ]
        self.process = subprocess.Popen(command, cwd=folder, stderr=log.open("wb"))
        while not (found := re.findall(r"is at http://127\.0\.0\.1:(\d+)", log.read_text("utf-8"))):
            time.sleep(0.05)
        self.port = int(found[0])

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
