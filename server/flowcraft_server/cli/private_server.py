"""What `flowcraft test`, `flowcraft exec` and `flowcraft eval` have in common: they start a server of their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from .shared_options import given

if TYPE_CHECKING:
    from flowcraft_server.testing import TestEnvironment
    from flowcraft_server.testing.suite import Suite


def refuse_addresses(ctx: click.Context, what: str) -> None:
    """Refuse the options that say where Redis or the API is.

    Args:
        ctx: of the command.
        what: what the command runs: `tests run`.

    Raises:
        click.UsageError: one of them was given.
    """
    for name in ("url", "namespace", "server", "token"):
        if given(ctx, name) is not None:
            raise click.UsageError(f"{what} on a private server: --{name} has no part in it")


@contextmanager
def server_errors() -> Iterator[None]:
    """Print in one line what keeps the server from being started, or a file of replies from being read.

    Raises:
        click.ClickException: it was the server.
        ConfigurationError: it was the file.
    """
    from flowcraft_sdk.errors import ConfigurationError
    from flowcraft_server.llm.errors import LLMSettingsError
    from flowcraft_server.store.binary import NoServerBinary
    from flowcraft_server.store.server_process import StoreError

    try:
        yield
    except LLMSettingsError as error:
        raise ConfigurationError(str(error)) from None
    except (StoreError, NoServerBinary) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def entered(suite: "Suite") -> "Iterator[TestEnvironment]":
    """The private server with a worker.

    Raises:
        click.ClickException: the lifespan of the deployment cannot be entered.
    """
    from flowcraft_server.worker.lifespan import LifespanError

    if suite.notes:
        raise click.ClickException(suite.notes[0])
    env = suite.environment()
    try:
        env.__enter__()
    except LifespanError as error:
        env.__exit__(None, None, None)
        raise click.ClickException(str(error)) from None
    with ExitStack() as stack:
        stack.push(env.__exit__)
        yield env
