"""The help of every command: it fits 80 columns, says all in its list of commands, and has examples whose options there are."""

import os
import shlex

import click
import pytest
from click.testing import CliRunner

from flowcraft_server.cli import client, server
from flowcraft_server.cli.examples import FLOWCRAFT, SERVER, commands_of
from flowcraft_server.cli.terminal import console, table

PROGRAMS = {"flowcraft": (client.main, FLOWCRAFT), "flowcraft-server": (server.main, SERVER)}
COMMANDS = [
    pytest.param(program, path, command, id=f"{program} {path}")
    for program, (main, _) in PROGRAMS.items()
    for path, command in commands_of(main)
]


@pytest.mark.parametrize(("program", "path", "command"), COMMANDS)
def test_help_fits_and_has_an_example(program: str, path: str, command: click.Command) -> None:
    main, _ = PROGRAMS[program]
    result = CliRunner().invoke(main, [*path.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if len(line) > 80] == []
    assert "..." not in result.output.partition("\nCommands:")[2], "a line in the list of commands is cut off"
    assert "Example" in result.output


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_examples_are_of_commands_and_have_options_that_there_are(program: str) -> None:
    main, shown = PROGRAMS[program]
    commands = dict(commands_of(main))
    aliases = {path for path in commands if path.startswith("run ") and program == "flowcraft"}
    assert set(shown) == set(commands) - aliases
    for path, found in shown.items():
        for example in found.examples:
            words = shlex.split(example.partition(" > ")[0].partition(" | ")[0])
            command, rest = main, words
            while isinstance(command, click.Group):
                command, rest = command.commands[rest[0]], rest[1:]
            assert example.startswith(path) or isinstance(commands[path], click.Group)
            context = click.Context(command)
            options, left, _ = command.make_parser(context).parse_args(list(rest))
            takes = [param for param in command.params if isinstance(param, click.Argument)]
            assert not left, example
            assert all(options.get(param.name or "") for param in takes if param.required), example


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_the_list_of_commands_is_whole(program: str) -> None:
    main, _ = PROGRAMS[program]
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    commands = result.output.partition("\nCommands:\n")[2]
    assert len(commands.splitlines()) == len(main.commands)
    assert "..." not in commands
    assert max(map(len, commands.splitlines())) <= 80


def test_a_table_in_80_columns_keeps_every_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows = [f"run-{'x' * 60}-{number}" for number in range(2)]
    shown = table("run", "blueprint", "status", "created", "took", "")
    for row in rows:
        shown.add_row(
            row, "content-moderation-of-posts", "completed", "2026-12-01 01:02:03", "12.34 s", "rerun of " + row
        )
    out = console()
    out.width = 80
    with out.capture() as captured:
        out.print(shown)
    lines = captured.get().splitlines()
    assert all(len(click.unstyle(line).rstrip()) <= 80 for line in lines)
    letters = "".join(click.unstyle(captured.get()).split())
    assert letters.count("x") == 2 * 60 * len(rows)
    assert "…" not in letters
    assert os.environ["COLUMNS"] == "80"


def test_an_input_without_its_option_is_shown_with_it() -> None:
    result = CliRunner().invoke(client.main, ["start", "order", "customer=Ada"])
    assert result.exit_code == 2
    assert "an input of the run is written -i customer=Ada" in result.output
    other = CliRunner().invoke(client.main, ["list", "customer=Ada"])
    assert "-i customer" not in other.output
