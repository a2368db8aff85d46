"""YAML with places: what scalars are, which key stands where, what is refused."""

from typing import Any

import pytest

from flowcraft_sdk._config.document import read_document
from flowcraft_sdk._config.source_positions import SourcePosition


def messages(text: str) -> list[str]:
    return [str(diagnostic).replace("f.yaml:", "") for diagnostic in read_document(text, "f.yaml")[1]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("12:30:00", "12:30:00"),
        ("2026-01-02", "2026-01-02"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: Any) -> None:
    tree, mistakes = read_document(f"key: {written}\n", "f.yaml")
    assert not mistakes
    assert tree.data == {"key": value}
    assert type(tree.data["key"]) is type(value)


def test_keys_and_values_know_their_places() -> None:
    tree, _ = read_document("a: 1\nb:\n  - x\n  - c: ü2\n", "f.yaml")
    assert tree.origins[("a",)].key == SourcePosition("f.yaml", 1, 1)
    assert tree.origins[("a",)].position == SourcePosition("f.yaml", 1, 4)
    assert tree.origins[("b", 0)].position == SourcePosition("f.yaml", 3, 5)
    assert tree.origins[("b", 1, "c")].key == SourcePosition("f.yaml", 4, 5)
    assert tree.origins[("b", 1, "c")].position == SourcePosition("f.yaml", 4, 8)


def test_columns_count_characters() -> None:
    tree, _ = read_document('"ü€": 1\n', "f.yaml")
    assert tree.origins[("ü€",)].position == SourcePosition("f.yaml", 1, 7)


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    tree, _ = read_document("a: 1\nb: {c: 1, c: 2}\na: 2\n", "f.yaml")
    assert tree.data == {"a": 1, "b": {"c": 1}}
    assert messages("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        "2:11   duplicate key 'c' (first at line 2, column 5)",
        "3:1   duplicate key 'a' (first at line 1, column 1)",
    ]


def test_keys_keep_their_text() -> None:
    assert read_document("on: 1\n1: 2\ntrue: 3\n", "f.yaml")[0].data == {"on": 1, "1": 2, "true": 3}


def test_anchors_and_merge_keys() -> None:
    text = "x: &a {k: 1, l: 2}\ny: {<<: *a, l: 3}\nz:\n  <<: [*a, {m: 4, k: 9}]\n"
    tree, mistakes = read_document(text, "f.yaml")
    assert not mistakes
    assert tree.data["y"] == {"l": 3, "k": 1}
    assert tree.data["z"] == {"k": 1, "l": 2, "m": 4}
    assert tree.origins[("y", "l")].position == SourcePosition("f.yaml", 2, 16)
    assert tree.origins[("y", "k")].position == SourcePosition("f.yaml", 1, 11)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a: [1\n", "not valid YAML"),
        ("a: 1\n b: 2\n", "not valid YAML"),
        ("a: *b\n", "1:4   no anchor '&b' stands above"),
        ("a: 1\n---\nb: 2\n", "2:1   a second document; a file holds one deployment"),
        ("a: \x00\n", "not valid YAML"),
        ("- 1\n", "1:1   expected a mapping"),
        ("? [a]\n: 1\n", "1:3   a key is a text"),
        ("a: !include x\n", "1:4   !include works in blueprints; here write ${file:x}"),
        ("a: {<<: 3}\n", "'<<' takes a mapping"),
        ("a: &a [*a]\n", "the anchor '&a' holds itself"),
    ],
)
def test_what_is_refused(text: str, shown: str) -> None:
    assert len(messages(text)) == 1
    assert shown in messages(text)[0]


def test_a_syntax_error_has_its_place() -> None:
    assert messages("a: 1\nb: ]\n")[0].startswith("2:4 ")


def test_aliases_within_aliases_do_not_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases stand for more than" in messages("\n".join(lines))[0]


def test_nothing_at_all_is_an_empty_mapping() -> None:
    assert read_document("", "f.yaml")[0].data == {}
    assert read_document("# only a comment\n", "f.yaml")[1] == []
