from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from handlers.templates import pick, render, to_text, wanted_keys


def test_names_are_trimmed_and_unknown_ones_stay_as_written() -> None:
    assert render("{{a}} {{ a }} {{\ta\n}} {{ b }} {{}} {a}", {"a": "x"}) == "x x x {{ b }} {{}} {a}"


def test_values_are_not_searched_for_names_again() -> None:
    assert render("{{ a }}{{ b }}", {"a": "{{ b }}", "b": "{{ a }}"}) == "{{ b }}{{ a }}"


def test_an_empty_value_is_put_in() -> None:
    assert render("[{{ a }}]", {"a": ""}) == "[]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-12, "-12"),
        (2.0, "2"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (123456.789, "123456.789"),
        (1e16, "10000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (0.000001, "0.000001"),
        (1.25e-05, "0.0000125"),
        (1e-7, "1e-7"),
        (1.23e-10, "1.23e-10"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
        ([1, "a", None, True], '[1,"a",null,true]'),
        ({"k": {"ü": [1.5]}}, '{"k":{"ü":[1.5]}}'),
        ([], "[]"),
        (("a", "b"), '["a","b"]'),
        (MappingProxyType({"a": MappingProxyType({"b": 1})}), '{"a":{"b":1}}'),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        ({"on": date(2026, 1, 2)}, '{"on":"2026-01-02"}'),
    ],
)
def test_text_of_a_value(value: Any, text: str) -> None:
    assert to_text(value) == text


def test_a_nodes_output_comes_before_the_key_of_that_name() -> None:
    assert pick({"x": "k"}, {"k": "start", "_outputs.k": "output"}) == {"x": "output"}
    assert pick({"x": "k"}, {"k": "start"}) == {"x": "start"}


def test_the_first_candidate_with_a_value_is_taken() -> None:
    inputs = {"x": ["a", "b", "c"]}
    assert pick(inputs, {"b": "B", "c": "C"}) == {"x": "B"}
    assert pick(inputs, {"a": None, "_outputs.b": None, "c": "C"}) == {"x": "C"}
    assert pick(inputs, {"a": False, "c": "C"}) == {"x": False}
    assert pick(inputs, {"a": "", "c": "C"}) == {"x": ""}
    assert pick(inputs, {}) == {"x": ""}
    assert pick({"x": []}, {"a": 1}) == {"x": ""}


def test_wanted_keys_are_all_keys_once() -> None:
    assert wanted_keys({"x": "a", "y": ["b", "a"]}) == ["_outputs.a", "a", "_outputs.b", "b"]
