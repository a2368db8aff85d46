"""Blueprint files that are read again: what is wrong with one never replaces what was good before."""

import os
from pathlib import Path

import pytest

from flowcraft_server.config import blueprint_reload
from flowcraft_server.config.blueprint_reload import BlueprintFiles, Reread
from flowcraft_server.config.load import load_config, load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.config.setting_changes import changed_settings, is_live, is_of_workers

FILE = "name: reloaded\nblueprints: {dirs: [flows]}\nhandlers: {}\n"
GOOD = "nodes:\n  a: {uses: sleep, params: {duration: 1s}}\n"
OTHER = "nodes:\n  a: {uses: sleep, params: {duration: 2s}}\n"


class Files:
    """A deployment in a folder, and its files as a server reads them again."""

    def __init__(self, folder: Path, **blueprints: str) -> None:
        self.folder = folder
        (folder / "flows").mkdir()
        (folder / "flowcraft.yaml").write_text(FILE)
        for name, text in blueprints.items():
            self.write(name, text)
        loaded = load_config(folder / "flowcraft.yaml")
        assert loaded.settings is not None, loaded.diagnostics
        self.files = BlueprintFiles.of(loaded)

    def write(self, name: str, text: str) -> None:
        (self.folder / "flows" / f"{name}.yaml").write_text(text)

    def read(self) -> Reread:
        loaded = load_settings(self.folder / "flowcraft.yaml")
        assert loaded.settings is not None
        return self.files.read(loaded, loaded.settings, {})

    def duration(self, name: str) -> object:
        return self.files.blueprints[name].nodes[0].params["duration"]


def test_only_what_has_changed_is_read_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path, one=GOOD, two=GOOD)
    assert not files.read().changed
    read: list[str] = []
    load = blueprint_reload.load_file
    monkeypatch.setattr(blueprint_reload, "load_file", lambda path: read.append(path.name) or load(path))
    assert not files.read().changed
    assert not read
    files.write("two", OTHER)
    files.write("three", GOOD)
    found = files.read()
    assert sorted(found.changed) == ["three", "two"]
    assert sorted(read) == ["three.yaml", "two.yaml"]
    (tmp_path / "flows" / "three.yaml").unlink()
    assert files.read().removed == ["three"]
    assert not files.read().removed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("nodes: [", "flows/two.yaml:1:"),
        ("nodes:\n  a: {uses: nobody}\n", "flows/two.yaml:2:13"),
        ("id: one\n" + OTHER, "flows/two.yaml:1:"),
        (GOOD + "  b: {call: missing, needs: [a]}\n", "flows/two.yaml:3:"),
    ],
    ids=["no YAML", "no such handler", "an id that is taken", "no such subflow"],
)
def test_a_file_with_mistakes_leaves_what_was_there(
    tmp_path: Path, text: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the mistakes of one file do not keep another one from being taken over; in the first look and in later ones."""
    monkeypatch.chdir(tmp_path)
    files = Files(tmp_path, one=GOOD, two=GOOD)
    for duration in ("3s", "4s"):
        files.write("one", GOOD.replace("1s", duration))
        files.write("two", text)
        found = files.read()
        assert [str(error).startswith(place) for error in found.errors] == [True], found.errors
        assert list(found.changed) == ["one"]
        assert files.duration("one") == duration
        assert files.duration("two") == "1s"
        assert not found.removed
    files.write("two", OTHER)
    assert list(files.read().changed) == ["two"]


def test_a_caller_is_checked_against_what_is_in_use(tmp_path: Path) -> None:
    """A callee whose file is wrong is what it was before; one that is gone makes its caller's file wrong."""
    files = Files(tmp_path, callee=GOOD, caller="nodes:\n  a: {call: callee}\n")
    files.read()
    files.write("callee", "nodes: [")
    files.write("caller", "description: new\nnodes:\n  a: {call: callee}\n")
    found = files.read()
    assert list(found.changed) == ["caller"]
    assert list(found.kept) == ["callee"]
    (tmp_path / "flows" / "callee.yaml").unlink()
    found = files.read()
    assert "callee" in str(found.errors)
    assert list(found.kept) == ["caller"]


def test_a_file_that_a_blueprint_takes_in_counts_as_the_blueprint(tmp_path: Path) -> None:
    files = Files(tmp_path, one=GOOD)
    files.write("one", "nodes:\n  a: {uses: sleep, params: {duration: !include pause.txt}}\n")
    (tmp_path / "flows" / "pause.txt").write_text("5s")
    assert list(files.read().changed) == ["one"]
    (tmp_path / "flows" / "pause.txt").write_text("6s")
    os.utime(tmp_path / "flows" / "pause.txt", ns=(1, 1))
    assert list(files.read().changed) == ["one"]
    assert files.duration("one") == "6s"


def test_settings_that_differ_are_named() -> None:
    before = Settings(name="a", handlers={"x": {"path": "m:f"}})
    after = Settings(
        name="a", handlers={"x": {"path": "m:g"}}, executor={"workers": 7}, blueprints={"dirs": ["b"]}, retention={}
    )
    found = changed_settings(before, after)
    assert found == ["blueprints.dirs", "executor.workers", "handlers.x"]
    assert [name for name in found if is_live(name)] == ["blueprints.dirs"]
    assert [name for name in found if is_of_workers(name)] == ["handlers.x"]
