"""What `flowcraft-server dev` suggests to type first: a command that works as it stands."""

import pytest

from flowcraft_server.cli.server_output import _suggested_start
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
