"""Files and folders: what is read, what is refused, and that nothing outside of the folder is."""

import os
from pathlib import Path

import pytest

from flowcraft_server.blueprints.loading.loader import load_dirs, load_file

GOOD = "nodes: {a: {uses: echo}}\n"


def shown(path: Path) -> list[str]:
    _, diagnostics = load_file(path)
    return [str(diagnostic).removeprefix(f"{path}:") for diagnostic in diagnostics]


class TestOneFile:
    @pytest.mark.parametrize("name", ["flow.yaml", "flow.yml", "flow.YAML"])
    def test_the_id_is_the_name_of_the_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(GOOD)
        blueprint, diagnostics = load_file(tmp_path / name)
        assert not diagnostics
        assert blueprint is not None
        assert blueprint.id == "flow"
        assert blueprint.file == str(tmp_path / name)

    def test_json(self, tmp_path: Path) -> None:
        (tmp_path / "200.json").write_bytes(b'\xef\xbb\xbf{"nodes": [{"id": "a", "uses": "echo"}], "edges": []}')
        blueprint, diagnostics = load_file(str(tmp_path / "200.json"))
        assert not diagnostics
        assert blueprint is not None
        assert blueprint.id == "200"

    def test_a_name_that_is_no_id(self, tmp_path: Path) -> None:
        (tmp_path / "a#1.yaml").write_text(GOOD)
        assert "'a#1' is no id for a blueprint" in shown(tmp_path / "a#1.yaml")[0]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"nodes:\n  a: {uses: \xe9cho}\n", "2:13   not UTF-8 text: byte 0xe9; save it as UTF-8"),
            (b"# \xc3\xa9 \xff\n", "1:5   not UTF-8 text: byte 0xff; save it as UTF-8"),
            ("nodes: {}".encode("utf-16"), "1:1   not UTF-8 text but UTF-16; save it as UTF-8"),
            (b"", "1:1   the file is empty; a blueprint needs nodes"),
            (b"\xef\xbb\xbf", "1:1   the file is empty; a blueprint needs nodes"),
            (b"\x00\x00", "1:1   not valid YAML"),
        ],
    )
    def test_what_is_no_text(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "a.yaml").write_bytes(content)
        found = shown(tmp_path / "a.yaml")
        assert len(found) == 1
        assert found[0].startswith(message)

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        assert shown(tmp_path / "none.yaml") == ["1:1   cannot be read: No such file or directory"]
        (tmp_path / "folder.yaml").mkdir()
        assert shown(tmp_path / "folder.yaml") == ["1:1   cannot be read: Is a directory"]
        assert shown(tmp_path / "flow.toml") == ["1:1   a blueprint file ends in .yaml, .yml, .json"]

    def test_what_is_too_large(self, tmp_path: Path) -> None:
        with (tmp_path / "a.yaml").open("wb") as file:
            file.truncate(17 * 1024 * 1024)
        assert shown(tmp_path / "a.yaml") == ["1:1   cannot be read: it is larger than 16 MiB"]


class TestIncludes:
    def include(self, folder: Path, name: str) -> list[str]:
        (folder / "a.yaml").write_text(f"nodes:\n  a: {{uses: echo, params: {{t: !include {name}}}}}\n")
        return shown(folder / "a.yaml")

    @pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "sub/../../secret.txt", "link.txt"])
    def test_nothing_outside_of_the_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        folder = tmp_path / "blueprints"
        folder.mkdir()
        os.symlink(tmp_path / "secret.txt", folder / "link.txt")
        found = self.include(folder, name)
        assert len(found) == 1
        assert found[0].startswith(f"2:31   !include '{name}' is outside of the blueprint's folder")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("none.txt", "there is no such file in the blueprint's folder"),
            ("folder", "there is no such file in the blueprint's folder"),
            ("bytes.bin", "!include 'bytes.bin': bytes.bin:1:1: not UTF-8 text but UTF-16"),
            ("large.txt", "larger than 1 MiB"),
            ('""', "needs the name of a file"),
        ],
    )
    def test_what_cannot_be_included(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "large.txt").write_text("x" * (1024 * 1024 + 1))
        found = self.include(tmp_path, name)
        assert len(found) == 1
        assert message in found[0]

    def test_a_name_that_no_file_can_have(self, tmp_path: Path) -> None:
        assert len(self.include(tmp_path, '"a\\0b"')) == 1
        assert len(self.include(tmp_path, "x" * 5000)) == 1


class TestFolders:
    def test_all_blueprints_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a.json", "c.yml", "notes.txt", ".hidden.yaml"):
            content = '{"nodes": [{"id": "a", "uses": "echo"}]}' if name.endswith("json") else GOOD
            (tmp_path / name).write_text(content)
        (tmp_path / "deeper.yaml").mkdir()
        blueprints, diagnostics = load_dirs([tmp_path])
        assert not diagnostics
        assert [blueprint.id for blueprint in blueprints] == ["a", "b", "c"]

    def test_two_files_with_one_id(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD)
        (tmp_path / "b.yaml").write_text(f"id: a\n{GOOD}")
        blueprints, diagnostics = load_dirs([tmp_path])
        assert [blueprint.file for blueprint in blueprints] == [str(tmp_path / "a.yaml")]
        (diagnostic,) = diagnostics
        assert str(diagnostic).startswith(
            f"{tmp_path / 'b.yaml'}:1:5   id: the id 'a' is taken by {tmp_path / 'a.yaml'}"
        )

    def test_a_file_that_is_named_twice_is_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD)
        blueprints, diagnostics = load_dirs([tmp_path, tmp_path / "a.yaml"])
        assert (len(blueprints), diagnostics) == (1, [])

    def test_one_broken_file_does_not_hide_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("nodes: [")
        (tmp_path / "b.yaml").write_text(GOOD)
        (tmp_path / "c.yaml").write_text("nodes: {a: {uses: echo, oops: 1}}\n")
        blueprints, diagnostics = load_dirs([tmp_path, tmp_path / "none"])
        assert [blueprint.id for blueprint in blueprints] == ["b", "c"]
        assert [diagnostic.severity for diagnostic in diagnostics] == ["error"] * 3
        assert any(
            str(diagnostic).startswith(f"folder '{tmp_path / 'none'}' cannot be read") for diagnostic in diagnostics
        )
