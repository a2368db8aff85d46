"""Numbers in messages: one thing is one."""

import re
from pathlib import Path

import pytest

import flowcraft_sdk
import flowcraft_server
from flowcraft_sdk.protocol.payload_schema import schema_misfits
from flowcraft_sdk.records import Usage
from flowcraft_sdk.records.counts import counted

BY_HAND = re.compile(r"""\{'?s?'? ?(if [^{}]*|\* \([^{}]*)(== 1|!= 1|> 1)[^{}]*\}""")
"""A plural that is made on the spot."""


@pytest.mark.parametrize(
    ("number", "words", "shown"),
    [
        (0, ("item",), "0 items"),
        (1, ("item",), "1 item"),
        (2, ("item",), "2 items"),
        (1_200, ("item",), "1,200 items"),
        (1, ("process", "processes"), "1 process"),
        (2, ("process", "processes"), "2 processes"),
        (1, ("node is", "nodes are"), "1 node is"),
    ],
)
def test_a_number_of_things(number: int, words: tuple[str, ...], shown: str) -> None:
    assert counted(number, *words) == shown


@pytest.mark.parametrize(
    ("payload", "schema", "message"),
    [
        ([], {"minItems": 1}, "expected a list of at least 1 item"),
        ("", {"minLength": 1}, "expected a text of at least 1 character"),
        ({}, {"minProperties": 1}, "expected an object of at least 1 key"),
        ({"a": 1, "b": 2, "c": 3}, {"maxProperties": 2}, "expected an object of at most 2 keys"),
        ([1, 1], {"contains": {"const": 1}, "maxContains": 1}, "expected a list with at most 1 item that fits"),
    ],
)
def test_one_of_a_schema(payload: object, schema: dict[str, object], message: str) -> None:
    (misfit,) = schema_misfits(payload, schema)
    assert re.match(message + r"(?!s)", misfit["msg"]), misfit["msg"]


def test_one_call_of_a_model() -> None:
    assert Usage(calls=1, input_tokens=1).text.startswith("1 call, 1 token, ")


def test_plurals_are_made_in_one_place() -> None:
    packages = [Path(package.__file__ or "").parent for package in (flowcraft_sdk, flowcraft_server)]
    lines = [
        f"{file.name}:{number}: {line.strip()}"
        for package in packages
        for file in package.rglob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if BY_HAND.search(line) and "counted(" not in line
    ]
    assert lines == []
