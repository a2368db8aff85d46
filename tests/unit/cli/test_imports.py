"""What the commands load: no more than what they are asked for needs. Each start of a program pays for it."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("flowcraft_sdk", "pydantic", "yaml", "loguru", "redis", "asyncio", "rich")
PROGRAM = """
import importlib, sys
from click.testing import CliRunner
module, heavy, *words = sys.argv[1:]
main = importlib.import_module(f"flowcraft_server.cli.{module}").main
result = CliRunner().invoke(main, words)
assert result.exit_code == 0, result.output
print(sorted(set(heavy.split(",")) & set(sys.modules)))
"""


def loaded(module: str, heavy: tuple[str, ...], *words: str, cwd: Path) -> str:
    """Those of the heavy modules that a command has loaded, in a program of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, ",".join(heavy), *words], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["client", "server"])
def test_help_loads_click_alone(module: str, tmp_path: Path) -> None:
    assert loaded(module, HEAVY, "--help", cwd=tmp_path) == "[]"


@pytest.mark.parametrize("words", [["check", "--offline"], ["check"], ["schema", "config"]], ids=" ".join)
def test_files_are_checked_without_what_runs_nodes(words: list[str], tmp_path: Path) -> None:
    heavy = ("redis", "huey", "flowcraft_server.worker", "flowcraft_sdk._client", "flowcraft_sdk._transport.connector")
    assert loaded("client", heavy, "init", ".", cwd=tmp_path) == "[]"
    assert loaded("server", heavy, *words, cwd=tmp_path) == "[]"


def test_a_process_that_watches_over_workers_has_not_loaded_what_runs_nodes() -> None:
    program = (
        "import sys\n"
        "import flowcraft_server.service.launch\n"
        "heavy = {'huey', 'flowcraft_server.llm', 'flowcraft_server.agents', 'flowcraft_server.worker.worker'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
