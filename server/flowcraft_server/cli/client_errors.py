"""What goes wrong with `flowcraft`, as one line and an exit code."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from .other_program import where_it_is
from .terminal import write, write_json

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_TIMEOUT = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

JSON_OPTION = "--json"
AS_JSON = "flowcraft.as_json"
"""The key under which a command's context keeps whether JSON was asked for."""

RUN = "flowcraft.run"
"""The key under which a command's context keeps the run that it waits for."""
ABOUT = ("run_id", "status", "node_id", "blueprint_id")
"""What errors as JSON name besides, of those that have it."""

DEFAULT_ADDRESS = "flowcraft.default_address"
"""The key under which a command's context keeps whether nothing named the address of Redis."""
_NO_FILE = "no flowcraft.yaml is in this folder or above it, so this is the default address: give --config or --url"

_FILE = re.compile(r"^Got unexpected extra arguments? \(([^\s)]{1,200}\.(?:ya?ml|json))[\s)]")
"""What click says of a file that was given without its option."""

_INPUT = re.compile(r"^Got unexpected extra arguments? \(([\w.-]{1,60}=[^\s)]{1,60})")
"""What click says of an input that was given without its option."""

DEBUG_VARIABLE = "FLOWCRAFT_DEBUG"


class TextCommands(click.Group):
    """A group that refuses arguments that are no text, and prints errors as JSON where `--json` is among the arguments."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; of one that is not here the message says where it is."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = where_it_is(args[0], ctx.command_path)
            if not hint:
                raise
            raise click.UsageError(f"No such command '{args[0]}'{hint}", error.ctx) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look the arguments over before anything is made of them: whatever they reached would fail in a way of its own."""
        for number, argument in enumerate(args, start=1):
            if not _is_text(argument):
                write(f"{ctx.info_name}: argument {number} is not UTF-8 text: {argument!a:.80}", err=True)
                ctx.exit(EXIT_USAGE)
        ctx.meta[AS_JSON] = JSON_OPTION in args
        with _usage_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        with _usage_errors(ctx):
            return super().invoke(ctx)


@contextmanager
def _usage_errors(ctx: click.Context) -> Iterator[None]:
    """Print what is wrong with a command line as JSON, where JSON was asked for."""
    try:
        yield
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.option_name == "--key" and _has(error.ctx, "--result-key"):
            error = click.UsageError("No such option '--key'; a key of the result is named by --result-key", error.ctx)
            if not ctx.meta.get(AS_JSON):
                raise error from None
        if isinstance(error, click.UsageError) and _takes_inputs(error.ctx) and (given := _INPUT.search(error.message)):
            hint = f"{error.message}; an input of the run is written -i {given[1]}"
            error = click.UsageError(hint, error.ctx)
            if not ctx.meta.get(AS_JSON):
                raise error from None
        if (
            isinstance(error, click.UsageError)
            and (named := _FILE.search(error.message))
            and (hint := _file_hint(error.ctx, named[1]))
        ):
            error = click.UsageError(f"{error.message}; {hint}", error.ctx)
            if not ctx.meta.get(AS_JSON):
                raise error from None
        if not ctx.meta.get(AS_JSON):
            raise
        cause = error.__context__ if type(error) is click.ClickException else None
        exit_with(ctx, type(cause or error).__name__, error.format_message(), error.exit_code)


def _takes_inputs(ctx: click.Context | None) -> bool:
    return _has(ctx, "-i")


def _has(ctx: click.Context | None, option: str) -> bool:
    return ctx is not None and any(option in param.opts for param in ctx.command.params)


def _file_hint(ctx: click.Context | None, name: str) -> str:
    """How a command is given a file that takes none as an argument."""
    if not _has(ctx, "--config") or ctx is None:
        return ""
    hint = f"the file of the deployment is written -c {name}"
    if ctx.command_path.startswith("flowcraft-server"):
        hint += f"; a single blueprint is checked by: flowcraft blueprint check {name}"
    return hint


def exit_with(ctx: click.Context, kind: str, line: str, code: int, error: Exception | None = None) -> NoReturn:
    """Print an error on standard error, in one line or as JSON, and leave with an exit code."""
    if ctx.meta.get(AS_JSON):
        about = {name: value for name in ABOUT if isinstance(value := getattr(error, name, None), str) and value}
        if RUN in ctx.meta:
            about.setdefault("run_id", ctx.meta[RUN])
        write_json({"error": {"type": kind, "message": line, "exit_code": code, **about}}, err=True)
    else:
        write(line, err=True)
    ctx.exit(code)


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


class Commands(TextCommands):
    """A group whose commands print every error in one line on standard error, with the exit code that it stands for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            exit_with(ctx, "Interrupted", "interrupted", EXIT_INTERRUPTED)
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            line, code = line_and_code(error)
            if ctx.meta.get(DEFAULT_ADDRESS) and type(error).__name__ == "BackendUnavailableError":
                line += f"; {_NO_FILE}"
            exit_with(ctx, type(error).__name__, line, code, error)


def line_and_code(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    from flowcraft_sdk.errors import (
        BlueprintNotFoundError,
        DeadLetterNotFoundError,
        FlowcraftError,
        MemoryNotFoundError,
        NodeNotFoundError,
        RunNotFoundError,
        RunUnsuccessfulError,
        ScheduleNotFoundError,
        WaitTimeoutError,
    )

    line = " ".join(str(error).split())
    if isinstance(error, RunUnsuccessfulError) or getattr(error, "code", "") == "run_limit":
        return line, EXIT_FAILED
    missing = (
        BlueprintNotFoundError,
        DeadLetterNotFoundError,
        MemoryNotFoundError,
        NodeNotFoundError,
        RunNotFoundError,
        ScheduleNotFoundError,
    )
    if isinstance(error, missing):
        return line, EXIT_NOT_FOUND
    if isinstance(error, WaitTimeoutError):
        return line, EXIT_TIMEOUT
    if isinstance(error, FlowcraftError):
        return line, EXIT_USAGE
    return f"{type(error).__name__}: {line} (a bug; {DEBUG_VARIABLE}=1 shows where)", EXIT_BUG


@contextmanager
def run_goes_on(run_id: str) -> Iterator[None]:
    """While waiting: whatever ends the waiting names the run, and an interrupt says that it did not end the run."""
    ctx = click.get_current_context()
    ctx.meta[RUN] = run_id
    try:
        yield
    except KeyboardInterrupt:
        exit_with(ctx, "Interrupted", f"interrupted; the run goes on: flowcraft result {run_id}", EXIT_INTERRUPTED)
