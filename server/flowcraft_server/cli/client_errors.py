"""What goes wrong with `flowcraft`, as one line and an exit code."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .terminal import write

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_TIMEOUT = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

DEBUG_VARIABLE = "FLOWCRAFT_DEBUG"


class TextCommands(click.Group):
    """A group that refuses arguments that are no text: whatever they reached would fail in a way of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look the arguments over before anything is made of them."""
        for number, argument in enumerate(args, start=1):
            if not _is_text(argument):
                write(f"{ctx.info_name}: argument {number} is not UTF-8 text: {argument!a:.80}", err=True)
                ctx.exit(EXIT_USAGE)
        return super().parse_args(ctx, args)


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


class Commands(TextCommands):
    """A group whose commands tell every error in one line on standard error, with the exit code that it stands for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            write("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            line, code = told(error)
            write(line, err=True)
            ctx.exit(code)


def told(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    from flowcraft_sdk.errors import (
        BlueprintNotFoundError,
        DeadLetterNotFoundError,
        FlowcraftError,
        RunNotFoundError,
        RunUnsuccessfulError,
        WaitTimeoutError,
    )

    line = " ".join(str(error).split())
    if isinstance(error, RunUnsuccessfulError):
        return line, EXIT_FAILED
    if isinstance(error, (RunNotFoundError, BlueprintNotFoundError, DeadLetterNotFoundError)):
        return line, EXIT_NOT_FOUND
    if isinstance(error, WaitTimeoutError):
        return line, EXIT_TIMEOUT
    if isinstance(error, FlowcraftError):
        return line, EXIT_USAGE
    return f"{type(error).__name__}: {line} (a bug; {DEBUG_VARIABLE}=1 shows where)", EXIT_BUG


@contextmanager
def run_goes_on(run_id: str) -> Iterator[None]:
    """While waiting: an interrupt ends the waiting, and says that it did not end the run."""
    try:
        yield
    except KeyboardInterrupt:
        write(f"\ninterrupted; the run goes on: flowcraft result {run_id}", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
