"""From an empty folder to an edited blueprint that is live: five commands, and how long they take.

`python -m pytest -q -s tests/acceptance/test_first_minute.py` prints the seconds; the number of commands is checked, the time is
not: it depends on the machine.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from flowcraft_sdk import Client
from tests.acceptance.server_program import server_environment

BIN = Path(sys.executable).parent


class Shell:
    """Types commands as they are installed, and notes each with the second at which it was done."""

    def __init__(self) -> None:
        self.environment = server_environment() | {"PYTHONPATH": ""}
        self.begin = time.monotonic()
        self.done: list[tuple[float, str]] = []

    def note(self, what: str) -> None:
        self.done.append((time.monotonic() - self.begin, what))

    def run(self, folder: Path, *command: str) -> str:
        ended = subprocess.run(
            [str(BIN / command[0]), *command[1:]], cwd=folder, env=self.environment, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        self.note("$ " + " ".join(command))
        return ended.stdout


def test_an_empty_folder_an_edit_and_it_is_live(tmp_path: Path) -> None:
    shell = Shell()
    shell.run(tmp_path, "flowcraft", "init", "--example", "minimal")
    server = subprocess.Popen(
        [str(BIN / "flowcraft-server"), "dev"], cwd=tmp_path, env=shell.environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        suggested = next(line for line in server.stdout if line.startswith("Start a run:"))
        shell.note("$ flowcraft-server dev")
        name = suggested.split()[5]
        start = ("flowcraft", "start", name, "-i", "name=Ada", "--wait", "--json")
        first = json.loads(shell.run(tmp_path, *start, "--id", "first"))
        assert first["output"] == {"greeting": "Hello Ada", "farewell": "Good night Ada"}

        (file,) = (tmp_path / "blueprints").iterdir()
        text = file.read_text()
        assert "farewell:" in text
        with Client.from_config(tmp_path / "flowcraft.yaml") as client:
            before = client.get_handle("first").describe().blueprint_version
            file.write_text(text.replace("outputs: {", "outputs: {edited: name, ", 1))
            assert file.read_text() != text
            until = time.monotonic() + 120
            while client.blueprint(name).version == before:
                assert time.monotonic() < until, "the edited blueprint was not published"
        shell.note("(the blueprint was edited, and is live)")
        second = json.loads(shell.run(tmp_path, *start, "--id", "second"))
        assert second["output"] == {"edited": "Ada", **first["output"]}
        shown = shell.run(tmp_path, "flowcraft", "show", "second")
        assert "completed" in shown
    finally:
        server.terminate()
        server.wait(60)
    assert sum(what.startswith("$ ") for _, what in shell.done) == 5
    print()
    for seconds, what in shell.done:
        print(f"{seconds:6.1f} s  {what}")
