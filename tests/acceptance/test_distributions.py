"""What `make dist` builds can be used without the repository: installed into an empty environment, it follows the tutorial."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.walkthrough import environment, follow, steps_of

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorial.md"
BUILT = "/path/to/clone/dist"  # where the page has the reader's wheels
INSTALL_TIMEOUT = 240.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the four distributions, built as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    for project in ("sdk", "."):
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), project]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def reader(tmp_path: Path) -> dict[str, str]:
    """The environment of a reader: a `python3` that knows nothing of this tree, and the pins of constraints.txt.

    Skips the test on machines whose pip reaches no index, and on those whose Python makes no environments.
    """
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python3").write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} "$@"\n')
    (bin_ / "python3").chmod(0o755)
    env = environment(bin_) | {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env["PATH"] = ":".join(part for part in env["PATH"].split(":") if part != str(Path(sys.executable).parent))
    probe = tmp_path / "probe"
    if subprocess.run([bin_ / "python3", "-m", "venv", probe], env=env, capture_output=True).returncode:
        pytest.skip("this Python makes no virtual environments (on Debian: apt install python3-venv)")
    download = [probe / "bin/pip", "download", "--no-deps", "--retries=0", "--timeout=10", "-d", probe, "click"]
    if subprocess.run(download, env=env, capture_output=True, timeout=120).returncode:
        pytest.skip("pip reaches no package index here")
    return env


def test_the_tutorial_works_without_the_repository(built: Path, reader: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    installs = [step.command for step in steps_of(TUTORIAL, install=True) if "pip install" in step.command]
    assert installs == [f"pip install {BUILT}/*.whl"]
    follow(TUTORIAL, folder, reader, {BUILT: str(built)}, install=True, timeout=INSTALL_TIMEOUT)
    where = "import flowcraft_sdk, flowcraft_server; print(flowcraft_sdk.__file__, flowcraft_server.__file__)"
    python = folder / "venv/bin/python"
    found = subprocess.run([python, "-c", where], cwd=folder, env=reader, capture_output=True, text=True, check=True)
    assert all(Path(file).is_relative_to(folder / "venv") for file in found.stdout.split()), found.stdout


def test_the_tutorial_ends_with_a_killed_worker_and_a_run_that_completes() -> None:
    commands = [(step.command, step.expected or "") for step in steps_of(TUTORIAL)]
    killed = next(index for index, (command, _) in enumerate(commands) if command == "kill -9 $!")
    assert any("completed" in expected for _, expected in commands[killed:])


def test_the_distributions_hold_the_scripts_and_nothing_else_of_the_tree(built: Path) -> None:
    assert len(list(built.iterdir())) == 4
    for archive in built.iterdir():
        if archive.suffix == ".whl":
            names = zipfile.ZipFile(archive).namelist()
        else:
            with tarfile.open(archive) as opened:
                names = [name.partition("/")[2] for name in opened.getnames()]
        package = "flowcraft_sdk" if "sdk" in archive.name else "flowcraft_server"
        assert any(name.endswith(f"{package}/py.typed") for name in names), archive.name
        assert any(name.endswith("LICENSE") for name in names), archive.name
        assert not [name for name in names if name.startswith(("tests/", "handlers/", "blueprints/", ".ci/"))]
        scripts = {Path(name).name for name in names if name.endswith(".lua")}
        there = {path.name for path in (ROOT / "sdk").rglob("*.lua")}
        assert scripts == (there if package == "flowcraft_sdk" else set()), archive.name
