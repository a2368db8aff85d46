"""Installs the peers under `.bench/`, from the package indexes as they are set up, and runs them. None of ours needs them."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench"
PYTHON_PEERS = ["celery[redis]", "dbos"]
NODE_PEERS = ["flowcraft@2.10.1", "@flowcraft/bullmq-adapter@1.7.1", "bullmq@5", "ioredis@5"]
ORIGINAL = Path(__file__).with_name("original")


def _do(command: list[str], folder: Path | None = None, timeout: float = 300) -> str | None:
    """Standard output of a command, None if it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        print(f"{' '.join(command[:4])} ...: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return done.stdout


def python_peers() -> Path | None:
    """The interpreter that has Celery and DBOS, installed if it is not there; None if it cannot be."""
    venv = HOME / "venv"
    python = venv / "bin/python"
    if not (venv / "ready").exists():
        HOME.mkdir(exist_ok=True)
        if _do([sys.executable, "-m", "venv", "--clear", str(venv)]) is None:
            return None
        if _do([str(python), "-m", "pip", "install", "-q", *PYTHON_PEERS]) is None:
            return None
        (venv / "ready").touch()
    return python


def original() -> Path | None:
    """The folder of the original's programs beside its packages; None without Node or the packages."""
    folder = HOME / "original"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        if _do(["npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PEERS], folder) is None:
            return None
        (folder / "ready").touch()
    for program in ORIGINAL.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


def _figures(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text.strip().splitlines()[-1]))


def celery(python: Path, url: str, chains: int, length: int) -> dict[str, float] | None:
    """Tasks a second of Celery's chains."""
    program = Path(__file__).with_name("celery_peer.py")
    return _figures(_do([str(python), str(program), url, str(chains), str(length)], HOME))


def dbos(python: Path, workflows: int, steps: int) -> dict[str, float] | None:
    """Steps a second of DBOS's workflows."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(__file__).with_name("dbos_peer.py")
        return _figures(_do([str(python), str(program), folder, str(workflows), str(steps)], HOME))


def run_original(folder: Path, port: int, *words: Any) -> dict[str, Any] | None:
    """Figures of the original's program."""
    return _figures(_do(["node", "main.mjs", str(port), *map(str, words)], folder))
