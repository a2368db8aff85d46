"""Blueprints that have not changed are taken from an earlier start; what changes anything is noticed."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.config import load as loading
from flowcraft_server.config.blueprint_cache import FOLDER, KeptBlueprints
from flowcraft_server.config.load import LoadResult, load_config

FILE = "name: kept\nhandlers: {echo: kept_work:echo}\nblueprints: {dirs: [flows]}\nredis: {url: redis://h}\n"
FLOW = "nodes:\n  a: {uses: echo, params: {p: !include prompt.txt}}\n  b: {uses: echo, needs: [a], inputs: {x: a}}\n  c: {uses: echo}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flowcraft.yaml").write_text(FILE)
    (tmp_path / "flows/one.yaml").write_text(FLOW)
    (tmp_path / "flows/prompt.txt").write_text("Say hello.")
    (tmp_path / "kept_work.py").write_text("def echo(ctx):\n    return ctx.input\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("kept_work", None)


def load(folder: Path) -> LoadResult:
    loaded = load_config(folder / "flowcraft.yaml", keep=True)
    assert loaded.settings is not None, loaded.diagnostics
    return loaded


def taken(loaded: LoadResult) -> bool:
    return isinstance(loaded.blueprints, KeptBlueprints)


def test_the_second_start_takes_what_the_first_one_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    monkeypatch.setattr(loading, "load_dirs", lambda _dirs: pytest.fail("nothing is to be read"))
    second = load(folder)
    assert (taken(first), taken(second)) == (False, True)
    assert second.diagnostics == first.diagnostics and len(first.diagnostics) == 1, "a warning is reported again"
    assert [compile_blueprint(b).hash for b in second.blueprints] == [
        compile_blueprint(b).hash for b in first.blueprints
    ]
    assert [b.id for b in second.blueprints[:1]] == ["one"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flows/one.yaml", FLOW + "  d: {uses: echo}\n"),
        ("flows/prompt.txt", "Say goodbye."),
        ("flows/two.yaml", "nodes: {a: {uses: echo}}\n"),
        ("flowcraft.yaml", FILE + "defaults: {joinStrategy: any}\n"),
        ("flowcraft.yaml", FILE.replace("echo: kept_work:echo", "echo: {path: kept_work:echo, params: {q: 1}}")),
        ("kept_work.py", "def echo(ctx):\n    return 5\n"),
    ],
)
def test_what_changes_anything_is_noticed(folder: Path, name: str, text: str) -> None:
    load(folder)
    assert taken(load(folder))
    (folder / name).write_text(text)
    assert not taken(load(folder))
    assert taken(load(folder))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 5}', "[" * 100_000, "null", '"x"'])
def test_a_broken_cache_is_none(folder: Path, content: str) -> None:
    load(folder)
    for path in (folder / FOLDER).glob("*.json"):
        path.write_text(content)
    assert not taken(load(folder))
    assert taken(load(folder))


def test_a_cache_whose_parts_are_wrong_is_none(folder: Path) -> None:
    load(folder)
    path = folder / FOLDER / "blueprints.json"
    found = json.loads(path.read_text())
    for wrong in ({"diagnostics": 5}, {"diagnostics": [[1]]}):
        path.write_text(json.dumps({**found, **wrong}))
        assert not taken(load(folder))


def test_it_is_private_and_a_folder_that_cannot_be_written_is_no_mistake(folder: Path) -> None:
    load(folder)
    assert stat.S_IMODE((folder / FOLDER).stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder / FOLDER).glob("*.json")] == [0o600]
    shutil.rmtree(folder / FOLDER)
    (folder / ".flowcraft/cache").write_text("a file in its place")
    assert not taken(load(folder))


def test_a_cache_of_another_user_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not taken(load(folder))


def test_errors_are_not_kept(folder: Path) -> None:
    (folder / "flows/bad.yaml").write_text("nodes: {a: {uses: nobody}}\n")
    assert load_config(folder / "flowcraft.yaml", keep=True).settings is None
    assert not (folder / FOLDER / "blueprints.json").exists()


def test_plans_are_known_as_long_as_nothing_changes(folder: Path) -> None:
    first = load(folder)
    assert first.kept is not None and first.kept.plans() == {}
    first.kept.keep_plans({"one": "abc"})
    second = load(folder)
    assert second.kept is not None and second.kept.plans() == {"one": "abc"}
    (folder / "flows/one.yaml").write_text(FLOW + "\n")
    third = load(folder)
    assert third.kept is not None and third.kept.plans() == {}
