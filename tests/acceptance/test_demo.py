"""The demonstration, as `make demo` runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A copy of this deployment, so that whatever is left behind is seen."""
    for name in ("handlers", "blueprints"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "flowcraft.yaml", tmp_path)
    return tmp_path


def demo(deployment: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    paths = [path for path in sys.path if path and Path(path).resolve() != ROOT]
    inherited = {k: v for k, v in os.environ.items() if "REDIS" not in k and not k.startswith(("FLOWCRAFT", "OPENAI"))}
    return subprocess.run(
        [sys.executable, "-m", "flowcraft_server.demo", *arguments],
        cwd=deployment,
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def left_behind(deployment: Path) -> list[str]:
    """Processes whose command line names the deployment's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(deployment) in line:
            found.append(line)
    return found


def test_all_agents_run_and_nothing_is_left(deployment: Path) -> None:
    done = demo(deployment)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "feature flags, without the hype",
        "Dear Ada Berg,\nyour resume convinced us.",
        "Dear Tom Reyes,\nthank you for your interest",
        "is pinned to our wall now",
        "Ticket FC-1042 was filed.",
        "The post of user-101 was checked and approved.",
        "Post: Selling my bike, write to [REDACTED] this week.",
        "The spam post of user-103 was deleted",
        "UPDATE users SET status = 'banned' WHERE id = 'user-104';",
        "cancelled: it would have taken a minute",
        "Scripted replies, no model was called.",
        "10 runs: 9 completed, 1 cancelled.",
    ):
        assert text in done.stdout
    assert done.stderr == ""
    assert list((deployment / ".flowcraft" / "demo").iterdir()) == []
    assert left_behind(deployment) == []


def test_the_pages_stay_up_until_they_are_ended(deployment: Path) -> None:
    paths = [path for path in sys.path if path and Path(path).resolve() != ROOT]
    inherited = {k: v for k, v in os.environ.items() if "REDIS" not in k and not k.startswith(("FLOWCRAFT", "OPENAI"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "flowcraft_server.demo", "--ui"],
        cwd=deployment,
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths), "FLOWCRAFT__API__BIND": "127.0.0.1:0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Look at them all: " in line:
                break
        else:
            pytest.fail("".join(printed))
        address = line.split("Look at them all: ")[1].strip()
        with urllib.request.urlopen(f"{address}/api/v1/runs?tag=demo&limit=20", timeout=30) as reply:
            runs = json.load(reply)["items"]
        states = {run["blueprint_id"]: run["status"] for run in runs}
        assert (len(runs), states["newsletter"], states["long-read"]) == (12, "waiting", "failed")
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0, rest
    assert rest.endswith("The server has ended; nothing is left behind.\n")
    assert left_behind(deployment) == []


def test_the_environment_makes_no_difference(deployment: Path) -> None:
    """The demonstration neither uses a Redis nor a model that happens to be configured."""
    done = demo(deployment, REDIS_URL="redis://127.0.0.1:1/0", OPENAI_API_KEY="sk-none", FLOWCRAFT_LLM="openai")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failure_names_the_log(deployment: Path) -> None:
    done = demo(deployment, FLOWCRAFT_REDIS_SERVER=shutil.which("false") or "/bin/false")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    log = Path(done.stderr.strip().splitlines()[-1].removeprefix("The server's log: "))
    assert log.is_file()
    assert "not a Valkey or Redis server" in log.read_text()
    assert left_behind(deployment) == []


def test_runs_that_do_not_end_as_planned_are_a_failure(deployment: Path) -> None:
    rules = deployment / "handlers" / "scripted_replies.yaml"
    rules.write_text(rules.read_text().replace("reply: action_ban", "reply: action_shrug"))
    done = demo(deployment)
    assert done.returncode == 1
    assert "not as planned: moderation, ban" in done.stderr
    assert "action_shrug" in done.stdout
    assert left_behind(deployment) == []
