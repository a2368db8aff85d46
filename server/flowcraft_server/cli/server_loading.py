"""Settings, address of Redis and errors, as the commands of `flowcraft-server` need them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from .terminal import write

if TYPE_CHECKING:
    from flowcraft_server.config.load import LoadResult
    from flowcraft_server.config.model import Settings

EXIT_INVALID = 2


def known_url(loaded: "LoadResult", settings: "Settings") -> str:
    """The address of the deployment's Redis, which may be an embedded store that runs."""
    from flowcraft_server.store.embedded import running_url

    url = running_url(loaded.place(settings.redis.data_dir)) if settings.redis.embedded else settings.redis.url
    url = url or redis_variable(loaded)
    if url is None:
        raise click.ClickException("the embedded store does not run; start `flowcraft-server dev`, or set redis.url")
    return url


def settings_or_exit(loaded: "LoadResult") -> "Settings":
    """The settings; what is wrong is printed, and ends the command."""
    if loaded.diagnostics:
        from .diagnostic_output import print_diagnostics

        print_diagnostics(loaded.diagnostics, "text")
    if loaded.settings is None:
        from .server_output import print_verdict

        print_verdict(loaded, "text", starting=True)
        sys.exit(EXIT_INVALID)
    return loaded.settings


def redis_variable(loaded: "LoadResult") -> str | None:
    """The address in the environment. What is none is printed in one line, with the exit code of a wrong file."""
    from flowcraft_sdk._config.environment import environment_of
    from flowcraft_sdk._transport.connector import address_in
    from flowcraft_sdk.errors import ConfigurationError

    try:
        return address_in(environment_of(loaded.folder, os.environ))
    except ConfigurationError as error:
        write(str(error), err=True)
        sys.exit(EXIT_INVALID)


@contextmanager
def errors_printed() -> Iterator[None]:
    """What a user can mend is printed in one line; exit code 1."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _mendable()):
            raise click.ClickException(str(error)) from None
        raise


def _mendable() -> tuple[type[Exception], ...]:
    """The errors that a user can mend; their modules are loaded once there is an error."""
    from flowcraft_sdk.errors import FlowcraftError
    from flowcraft_server.llm.errors import LLMSettingsError
    from flowcraft_server.service.health import Unhealthy
    from flowcraft_server.service.listening import CannotListen
    from flowcraft_server.service.redis_checks import RedisUnusable
    from flowcraft_server.store.binary import NoServerBinary
    from flowcraft_server.store.link import StoreUnavailable
    from flowcraft_server.store.server_process import StoreError
    from flowcraft_server.worker.lifespan import LifespanError

    return (
        RedisUnusable, Unhealthy, StoreError, StoreUnavailable, NoServerBinary, LLMSettingsError, CannotListen, FlowcraftError,
        LifespanError,
    )  # fmt: skip
