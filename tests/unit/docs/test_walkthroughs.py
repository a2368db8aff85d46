"""Pages that can be followed step by step are followed, with the programs of this tree: see tests/walkthrough.py."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_server.store.embedded import EmbeddedStore
from tests.walkthrough import environment, follow, is_expected, steps_of

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READERS_API = "127.0.0.1:8088"  # so does a free port
READERS_REDIS = "redis://localhost:6379/0"  # a store of the test's own takes its place
WALKTHROUGHS = [page for page in PAGES if steps_of(page)]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedStore(tmp_path / "redis") as store:
        yield store.url


@pytest.mark.parametrize("page", WALKTHROUGHS, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, tmp_path: Path, redis_url: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    env = {**environment(Path(sys.executable).parent), "FLOWCRAFT__API__BIND": bind}
    follow(page, folder, env, {READERS_REDIS: redis_url, READERS_API: bind})


@pytest.mark.parametrize("page", WALKTHROUGHS, ids=lambda page: page.stem)
def test_files_of_a_page_are_used_by_its_commands(page: Path) -> None:
    steps = steps_of(page)
    assert any(step.command for step in steps), "files alone show nothing"
    if any(step.file == "flowcraft.yaml" for step in steps):
        assert any(re.match(r"flowcraft-server (check|dev|run)|pytest", step.command) for step in steps)


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("a  b 1.5 s\n", "a b 2.31 s\n", True),
        ("x\ny\nz\n", "x\n...\nz\n", True),
        ("x\nz\n", "x\n...\nz\n", True),
        ("by /some/where/valkey-server\n", "by ...valkey-server\n", True),
        ("run 01a229509f10a719c6e3cd4cabdf\n", "run 01a2294bd85a31c54d7e97dc0b1c\n", True),
        ("a\nb\n", "a\n", False),
        ("a 1\n", "a 2\n", False),
        ("a\n", "", False),
        ("", "[1] 4711\n", True),
        ("bash: line 48: 26236 Killed    flowcraft-server dev\n", "[1]+ Killed   flowcraft-server dev\n", True),
    ],
)
def test_what_counts_as_the_same(printed: str, expected: str, same: bool) -> None:
    assert is_expected(printed, expected) is same
