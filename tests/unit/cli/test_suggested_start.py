"""What `flowcraft-server dev` prints at its start: where the pages are, and a command that works as it stands."""

import pytest

from flowcraft_server.cli.server_output import _suggested_start, address_row
from flowcraft_server.config.model import Settings
from tests.unit.blueprints.registry import read

CHILD = read("id: a-child\ninputs: {line: string}\nnodes: {a: {uses: echo}}", default_id="a-child")
PARENT = read(
    "id: parent\ninputs: {mail: string, mood: {default: fine}, note: {required: false}}\nnodes: {p: {call: a-child}}",
    default_id="parent",
)
RING = read("id: ring\nnodes: {p: {call: ring}}", default_id="ring")


@pytest.mark.parametrize(
    ("blueprints", "command"),
    [
        ([CHILD, PARENT], "flowcraft start parent -i mail=... --follow"),
        ([CHILD], "flowcraft start a-child -i line=... --follow"),
        ([RING], "flowcraft start ring --follow"),
    ],
)
def test_the_first_that_nobody_calls_with_what_it_requires(blueprints: list, command: str) -> None:
    assert _suggested_start(blueprints) == command


@pytest.mark.parametrize(
    ("api", "address", "row"),
    [
        ({}, "http://127.0.0.1:8088", ("pages", "http://127.0.0.1:8088")),
        ({"ui": False}, "http://127.0.0.1:8088", ("api", "http://127.0.0.1:8088/api/v1")),
        ({}, "", ("pages", "cannot listen on 127.0.0.1:8088; with `api: {bind: 127.0.0.1:0}` any free port is taken")),
    ],
)
def test_the_line_of_the_pages_is_there_without_them(api: dict, address: str, row: tuple[str, str]) -> None:
    assert address_row(Settings(api=api), address) == row
