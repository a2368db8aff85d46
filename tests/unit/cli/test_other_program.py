"""Commands that are looked for in the wrong program."""

import click
import pytest
from click.testing import CliRunner

from flowcraft_server.cli.client import main as client
from flowcraft_server.cli.other_program import COMMANDS
from flowcraft_server.cli.server import main as server

PROGRAMS = {"flowcraft": client, "flowcraft-server": server}


@pytest.mark.parametrize(
    ("program", "words", "about"),
    [
        (
            "flowcraft-server",
            ["init", "shop"],
            "No such command 'init'; it is one of the other program: `flowcraft init`",
        ),
        ("flowcraft-server", ["start", "order"], "it is one of the other program: `flowcraft start`"),
        ("flowcraft", ["dev"], "it is one of the other program: `flowcraft-server dev`"),
        ("flowcraft", ["check"], "it is one of the other program: `flowcraft-server check`"),
        ("flowcraft", ["run", "order"], "to start one, write `flowcraft start order`"),
        ("flowcraft", ["strt"], "Did you mean one of: 'start'"),
    ],
)
def test_it_is_pointed_at(program: str, words: list[str], about: str) -> None:
    found = CliRunner().invoke(PROGRAMS[program], words, prog_name=program)
    assert found.exit_code == 2
    assert about in found.stderr


def test_the_commands_are_those_of_the_programs() -> None:
    own = {name: set(group.commands) for name, group in PROGRAMS.items() if isinstance(group, click.Group)}
    assert {name: set(commands) for name, commands in COMMANDS.items()} == {
        "flowcraft": own["flowcraft"] - own["flowcraft-server"],
        "flowcraft-server": own["flowcraft-server"] - own["flowcraft"],
    }
