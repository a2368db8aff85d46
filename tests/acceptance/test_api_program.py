"""The HTTP API as a process beside the workers."""

import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.server_program import Server, end_all, eventually, run_command, write_deployment

ON = {"FLOWCRAFT__API__ENABLED": "on", "FLOWCRAFT__API__BIND": "127.0.0.1:0"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield write_deployment(tmp_path / "deployment")
    end_all(tmp_path / "deployment")


def test_it_is_started_again_and_drains_with_the_server(folder: Path) -> None:
    server = Server(folder, "dev", environ=ON)
    server.wait_for("the HTTP API of 'acceptance' is at")
    url = re.search(r"pages +(http://127\.0\.0\.1:\d+)", server.printed)[1]
    with httpx2.Client(base_url=url, timeout=30) as client:
        answer = client.post("/api/v1/runs?wait=20", json={"blueprint": "chain", "ctx": {"x": 1}})
        assert (answer.status_code, answer.json()["output"]["b"]) == (200, "slept")
        process = int(re.search(r"the HTTP API is process (\d+)", server.printed)[1])
        os.kill(process, signal.SIGKILL)
        server.wait_for("the HTTP API ended with -9")
        assert client.get("/livez").status_code == 200  # the connection waits for the next process
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert eventually(lambda: not _answers(url))


def test_alone_it_says_what_is_in_its_way(folder: Path) -> None:
    server = Server(folder, "dev", environ=ON)
    server.wait_for("the HTTP API of 'acceptance' is at")
    bind = re.search(r"pages +http://(127\.0\.0\.1:\d+)", server.printed)[1]
    alone = run_command(folder, "api", "--bind", bind, "--redis", "redis://localhost:1/0")
    assert (alone.returncode, alone.stderr.strip().splitlines()[-1]) == (
        1,
        f"Error: cannot listen on {bind}: Address already in use; see api.bind",
    )
    refused = run_command(folder, "api", "--bind", "0.0.0.0:0", "--redis", "redis://localhost:1/0")
    assert refused.returncode == 2
    assert "api.bind: 0.0.0.0 needs api.auth.tokens (anyone could start runs); or bind 127.0.0.1" in refused.stderr


def test_it_serves_without_redis_and_says_so(folder: Path) -> None:
    server = Server(folder, "api", "--bind", "127.0.0.1:0", "--redis", "redis://localhost:1/0")
    server.wait_for("the HTTP API of 'acceptance' is at")
    url = re.search(r"is at (http://[\d.:]+)", server.printed)[1]
    assert httpx2.get(f"{url}/livez").status_code == 200
    if sys.platform == "linux":
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft >= min(8192, hard), "a connection is an open file"
    ready = httpx2.get(f"{url}/readyz", timeout=20)
    assert (ready.status_code, ready.json()["code"]) == (503, "backend_unavailable")
    runs = httpx2.get(f"{url}/api/v1/runs/x", timeout=20)
    assert (runs.status_code, runs.json()["code"]) == (503, "backend_unavailable")
    server.signal(signal.SIGTERM)
    assert server.ends() == 0


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez", timeout=1).status_code == 200
    except httpx2.HTTPError:
        return False
