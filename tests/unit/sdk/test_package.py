"""The package as such: light to import, fully typed, its names in one place."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import flowcraft_sdk

TYPED = """
from typing import Any, assert_type
from pydantic import BaseModel
from flowcraft_sdk import AsyncClient, AsyncHandle, Client, Handle, NodeFailedEvent, NodeFailure, RunEndedEvent, RunEvent, RunStatus

class M(BaseModel):
    x: int

def sync(client: Client) -> None:
    assert_type(client.start("b"), Handle[Any])
    assert_type(client.start("b", {"x": 1}, result_type=M, tags=["a"]), Handle[M])
    assert_type(client.start("b", result_type=M).result(timeout=1), M)
    assert_type(client.execute("b", result_type=M, timeout=1, run_id="r"), M)
    assert_type(client.execute("b"), Any)
    assert_type(client.get_handle("r", result_type=M), Handle[M])
    assert_type(client.get_handle("r").result(), Any)
    for handle in client.as_completed([client.start("b", result_type=M)]):
        assert_type(handle, Handle[M])
    for event in client.get_handle("r").events(children=True):
        assert_type(event, RunEvent)
        if isinstance(event, NodeFailedEvent):
            assert_type(event.error, NodeFailure)
            assert_type(event.attempt, int)
        elif isinstance(event, RunEndedEvent):
            assert_type(event.status, RunStatus)
    for line in client.get_handle("r").logs(follow=True):
        assert_type(line.message, str)
    client.start("b", retries=3)  # type: ignore[call-overload]
    client.start("b", on_conflict="replace")  # type: ignore[call-overload]

async def aio(client: AsyncClient) -> None:
    assert_type(await client.start("b"), AsyncHandle[Any])
    handle = await client.start("b", result_type=M)
    assert_type(handle, AsyncHandle[M])
    assert_type(await handle.result(), M)
    assert_type(await client.execute("b", result_type=M), M)
    async for run in client.list_runs():
        assert_type(run.run_id, str)
    async for ended in client.as_completed([handle]):
        assert_type(ended, AsyncHandle[M])
"""


def test_importing_it_brings_in_nothing_heavy() -> None:
    program = (
        "import sys, flowcraft_sdk\n"
        "heavy = {'redis', 'asyncio', 'huey', 'starlette', 'loguru', 'yaml', 'click', 'rich', 'openai', 'flowcraft_server', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_are_imported_later_are_ordinary_names() -> None:
    program = (
        "import flowcraft_sdk\n"
        "assert set(flowcraft_sdk.__all__) <= set(dir(flowcraft_sdk))\n"
        "from flowcraft_sdk import *\n"
        "assert all(globals()[name] is getattr(flowcraft_sdk, name) for name in flowcraft_sdk.__all__)\n"
        "assert flowcraft_sdk.Client is vars(flowcraft_sdk)['Client']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="module 'flowcraft_sdk' has no attribute 'Clients'"):
        _ = flowcraft_sdk.Clients  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'Clients' from 'flowcraft_sdk'"):
        from flowcraft_sdk import Clients  # type: ignore[attr-defined]  # noqa: F401


def test_every_public_name_is_there_once() -> None:
    assert len(set(flowcraft_sdk.__all__)) == len(flowcraft_sdk.__all__)
    for name in flowcraft_sdk.__all__:
        assert getattr(flowcraft_sdk, name).__doc__, name


def test_results_are_typed_as_asked(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    root = Path(flowcraft_sdk.__file__).parents[1]
    source = tmp_path / "typed.py"
    source.write_text(TYPED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", str(root))
        cache = root.parent / ".mypy_cache" / "typed"
        message, errors, code = api.run(
            ["--strict", "--config-file=", "--cache-dir", str(cache), "--follow-imports=silent", str(source)]
        )
    assert (code, errors) == (0, ""), message


def test_pyright_finds_the_same_types(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    (tmp_path / "typed.py").write_text(TYPED)
    root = Path(flowcraft_sdk.__file__).parents[1]
    settings = {"include": ["typed.py"], "extraPaths": [str(root)], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    checker = Path(sysconfig.get_path("scripts")) / "basedpyright"
    done = subprocess.run(
        [checker, "--level", "error", "--pythonpath", sys.executable], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
