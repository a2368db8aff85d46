"""YAML as blueprints are written in it: YAML 1.2 scalars, anchors, places, and both of PyYAML's parsers."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk._config import yaml_reader
from flowcraft_sdk._config.lines import Lines
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.yaml_scalars import core_scalar
from flowcraft_server.blueprints.loading.loader import load_text
from tests.unit.blueprints.registry import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("True", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("tRUE", "tRUE"),
        ("12:30", "12:30"), ("12:30:00", "12:30:00"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("0b1", "0b1"),
        ("1_000", "1_000"), ("+7", 7), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0),
        ("-1.5E-2", -0.015), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("-", "-"), ("+", "+"), (".", "."),
        ("0x", "0x"), ("e5", "e5"), ("nan", "nan"), ("inf", "inf"), ("=", "="), ("<<x", "<<x"),
    ],
)  # fmt: skip
def test_core_scalars(text: str, value: object) -> None:
    assert core_scalar(text) == value
    assert type(core_scalar(text)) is type(value)


def params_of(written: str) -> Any:
    return read(f"nodes:\n  a:\n    uses: echo\n    params: {written}\n").nodes[0].params


def test_quotes_and_tags() -> None:
    assert params_of('{a: "1", b: \'true\', c: !!str 2, d: !!float 3, e: !!int "4", f: ! 5}') == {
        "a": "1", "b": "true", "c": "2", "d": 3.0, "e": 4, "f": "5",
    }  # fmt: skip


def test_keys_are_texts() -> None:
    assert params_of("{1: a, true: b, null: c, on: d, 0x10: e}") == {
        "1": "a", "true": "b", "null": "c", "on": "d", "0x10": "e",
    }  # fmt: skip


def test_block_texts_keep_their_lines() -> None:
    text = "nodes:\n  a:\n    uses: echo\n    params:\n      t: |\n        one: two\n        # three\n      f: >-\n        a\n        b\n"
    assert read(text).nodes[0].params == {"t": "one: two\n# three\n", "f": "a b"}


class TestAnchors:
    def test_an_alias_is_a_copy_of_what_it_names(self) -> None:
        text = "x-slow: &slow {timeout: 5m, maxRetries: 3}\nnodes:\n  a: {uses: echo, config: *slow}\n  b: {uses: echo, config: {<<: *slow, maxRetries: 1}}\n"
        blueprint = read(text)
        assert [(node.config.timeout_ms, node.config.max_retries) for node in blueprint.nodes] == [
            (300_000, 3),
            (300_000, 1),
        ]

    def test_earlier_merges_count_first(self) -> None:
        text = "x-1: &one {n: 1, m: 1}\nx-2: &two {n: 2, k: 2}\nnodes:\n  a: {uses: echo, params: {<<: [*one, *two], k: 3}}\n"
        assert read(text).nodes[0].params == {"n": 1, "m": 1, "k": 3}

    def test_an_anchor_may_be_given_anew(self) -> None:
        text = "x-1: &x 1\nx-2: &x 2\nnodes:\n  a: {uses: echo, params: {n: *x}}\n"
        assert read(text).nodes[0].params == {"n": 2}

    def test_many_aliases_of_little_are_fine(self) -> None:
        nodes = "".join(f"  n{i}: {{uses: echo, config: *c}}\n" for i in range(1000))
        assert len(read(f"x-c: &c {{timeout: 5s}}\nnodes:\n{nodes}").nodes) == 1000

    def test_a_bomb_costs_neither_time_nor_memory(self) -> None:
        lines = ["x-0: &x0 [l, l, l, l, l, l, l, l, l, l]"]
        lines += [f"x-{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 30)]
        _, diagnostics = load_text("\n".join([*lines, "nodes: {a: {uses: echo, params: {b: *x29}}}"]))
        assert [diagnostic.message for diagnostic in diagnostics] == ["aliases stand for more than 10000 values"]


class TestPlaces:
    TEXT = (
        "id: places\n"
        "nodes:\n"
        "  größe:   {uses: echo, params: {deep: [1, {x: ü}]}}\n"
        "  next one:\n"
        "    uses: route\n"
        "    next: {no: größe}\n"
        "edges:\n"
        "  - {source: größe, target: next one}\n"
    )

    @pytest.mark.parametrize(
        ("path", "place"),
        [
            (("id",), (1, 5)), (("nodes", "größe"), (3, 12)), (("nodes", "größe", "params", "deep", 1, "x"), (3, 48)),
            (("nodes", "next one", "uses"), (5, 11)), (("edges", 0, "target"), (6, 16)), (("edges", 0, "action"), (6, 12)),
            (("edges", 1, "source"), (8, 14)), (("edges", 1), (8, 5)), (("nodes", "größe", "nowhere", "at all"), (3, 12)),
        ],
    )  # fmt: skip
    def test_of_values(self, path: tuple[str | int, ...], place: tuple[int, int]) -> None:
        position = read(self.TEXT).positions.of(path)
        assert position is not None
        assert (position.line, position.column) == place

    def test_of_keys(self) -> None:
        positions = read(self.TEXT).positions
        position = positions.of_key(("nodes", "größe", "params", "deep"))
        assert position is not None
        assert (position.line, position.column) == (3, 34)
        assert positions.of_key(("nodes", "next one")) == SourcePosition("main.yaml", 4, 3)


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029"])
def test_separators_that_pasted_texts_hold_end_no_line(separator: str) -> None:
    pasted = f"one{separator}two"
    text = (
        f"description: {pasted}\r\nnodes:\r\n  a:\r\n    uses: echo\r\n    params:\r\n"
        f'      t: |\r\n        {pasted}\r\n      q: "{pasted}"\r\n    oops: 1\r\n'
    )
    blueprint, diagnostics = load_text(text)
    assert blueprint is not None
    assert blueprint.description == pasted
    assert blueprint.nodes[0].params == {"t": f"{pasted}\n", "q": pasted}
    assert [str(diagnostic.position) for diagnostic in diagnostics] == ["blueprint.yaml:9:5"]


def test_the_other_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = TestPlaces.TEXT + "metadata: {list: [1, 2.5, no, &a {b: c}, *a]}\n"
    one = read(text)
    monkeypatch.setattr(yaml_reader, "_Parser", yaml.SafeLoader)
    other = read(text)
    assert other == one
    assert other.positions == one.positions
    for broken in ("nodes:\n\ta: 1\n", "a: [1", "a: 'x", "nodes: {a: {uses: x}}\n b", "\x01"):
        _, diagnostics = load_text(broken)
        assert diagnostics
        assert "not valid YAML" in diagnostics[0].message


def test_a_file_of_brackets_does_not_end_the_process() -> None:
    _, diagnostics = load_text("[" * 200_000)
    assert [diagnostic.message for diagnostic in diagnostics] == ["nested more than 100 levels deep"]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read("\ufeffnodes: {a: {uses: echo}}").nodes[0].id == "a"


def test_numbers_are_finite() -> None:
    with pytest.raises(ValueError, match="cannot be stored as JSON"):
        core_scalar("-.Inf")
    assert math.isclose(float(core_scalar("1e308") or 0), 1e308)


def test_an_included_file_is_a_text(tmp_path: Path) -> None:
    from flowcraft_server.blueprints.loading.loader import load_file

    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "hate.txt").write_text("true: [\n", encoding="utf-8")
    file = tmp_path / "a.yaml"
    file.write_text("nodes:\n  a: {uses: echo, params: {t: !include prompts/hate.txt}}\n", encoding="utf-8")
    blueprint, diagnostics = load_file(file)
    assert not diagnostics
    assert blueprint is not None
    assert blueprint.nodes[0].params == {"t": "true: [\n"}
    position = blueprint.positions.of(("nodes", "a", "params", "t"))
    assert position is not None
    assert (position.line, position.column) == (2, 31)


@given(
    st.lists(
        st.sampled_from(
            [
                "a: 1\n",
                "b: [x, {y: z}]\r\n",
                "é: \u2028'q\u0085'\r",
                "# c\n",
                "\t",
                "- k\n",
                "  m: |\n    t\n",
                "&a ",
                "*a\n",
            ]
        ),
        max_size=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_the_parser_counts_lines_and_columns_as_editors_do(parts: list[str]) -> None:
    text = "".join(parts)
    lines, seen = Lines(text, "f"), []
    parser = yaml_reader._Parser(text.translate(yaml_reader._HIDE))
    try:
        while (event := parser.get_event()) is not None:
            if not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                mark = event.start_mark
                seen.append((SourcePosition("f", mark.line + 1, mark.column + 1), lines.position(mark.index)))
    except yaml.YAMLError:
        pass
    assert all(found == expected for found, expected in seen)
