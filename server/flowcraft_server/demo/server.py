"""The demonstration's own server: `flowcraft-server dev` in a subprocess, with its data and its log in a folder apart."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flowcraft_sdk import Client, FlowcraftError
from flowcraft_server.store.embedded import EmbeddedStore, running_url

READY_TIMEOUT = 20.0
STOP_TIMEOUT = 15.0
_LAST_LINES = 8
_ADDRESS = re.compile(r"https?://[^\s\x1b]+")


class ServerFailed(Exception):
    """The server did not start, or died. The message quotes the end of its log."""


class DemoServer:
    """A server that lives as long as the `with` block. Its folder goes with it, unless the block fails.

    Args:
        config: the deployment's file.
        name: the deployment's name.
        provider: name of the language model provider to use.
        blueprints: folders of blueprints; without any, those of the file.
    """

    def __init__(self, config: Path, name: str, provider: str, blueprints: Sequence[str] = ()) -> None:
        self.config = config
        self.name = name
        self.provider = provider
        self.blueprints = list(blueprints)
        folder = config.parent / ".flowcraft" / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        self.log = self.folder / "server.log"
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environ = {
            **os.environ,
            "FLOWCRAFT__REDIS__URL": "embedded:",
            "FLOWCRAFT__REDIS__DATADIR": str(self._data),
            "FLOWCRAFT__LLM__DEFAULT": self.provider,
        }
        if self.blueprints:
            environ["FLOWCRAFT__BLUEPRINTS__DIRS"] = json.dumps(self.blueprints)
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C is ours to handle, the server is then stopped in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flowcraft_server.cli.server", "dev", "--config", str(self.config)],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> Client:
        """Wait until the server works, and return a client of it.

        Raises:
            ServerFailed: it ended, or does not work in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline:
            self.check()
            url = running_url(self._data, timeout=0.1)
            if url is not None:
                client = Client(url, namespace=self.name)
                if self._works(client):
                    return client
                client.close()
            time.sleep(0.03)
        raise ServerFailed(f"the server was not ready within {READY_TIMEOUT:g} s{self._end_of_log()}")

    def pages(self) -> str | None:
        """The address of the web pages, as the server has printed it; None where it has none."""
        found = _ADDRESS.search(self.log.read_text("utf-8", "replace"))
        return found[0] if found else None

    def wait(self) -> None:
        """Wait until the server ends.

        Raises:
            ServerFailed: it has ended.
        """
        if self._process is not None:
            self._process.wait()
        self.check()

    def check(self) -> None:
        """Raise ServerFailed if the server has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise ServerFailed(f"the server ended with exit code {self._process.returncode}{self._end_of_log()}")

    def _works(self, client: Client) -> bool:
        try:
            info = client.ping()
        except FlowcraftError:  # it is still reading its data
            return False
        return info.workers > 0 and info.blueprints > 0

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            # Killed, it could not stop its store: the last one to leave does.
            with EmbeddedStore(self._data):
                pass

    def _end_of_log(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]
        return "".join(f"\n    {line}" for line in lines)
