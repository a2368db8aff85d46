"""Options of the commands of `flowcraft-server`: which deployment is meant, and values for one start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .client_input import CONFIG_VARIABLE, nearest_config
from .shared_options import CONFIG, given


def or_root(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """An option of the whole command counts where the command behind it does not say it itself."""
    before = given(ctx, param.name or "")
    source = ctx.get_parameter_source(param.name or "")
    if source is not ParameterSource.COMMANDLINE and before is not None:
        return before
    if param.name == "file" and source is ParameterSource.DEFAULT:
        return nearest_config() or value  # as `flowcraft` finds it
    return value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which deployment is meant."""
    command = click.option(
        "--profile", metavar="NAME", callback=or_root, help="Profile of the file; by default $FLOWCRAFT_PROFILE."
    )(command)
    return click.option(
        *CONFIG,
        "file",
        envvar=CONFIG_VARIABLE,
        default="flowcraft.yaml",
        show_default=True,
        callback=or_root,
        type=click.Path(path_type=Path),
        help=f"The deployment's file; ${CONFIG_VARIABLE} names it too.",
    )(command)


def working(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that set values for this start only."""
    for option in (
        click.option("--log-level", metavar="LEVEL", help="In place of logging.level."),
        click.option(
            "--queue", "-q", multiple=True, metavar="NAME", help="In place of executor.queue; may be repeated."
        ),
        click.option("--processes", metavar="N", help="In place of executor.processes."),
        click.option("--workers", "-w", metavar="N", help="In place of executor.workers."),
        click.option("--redis", "redis_url", metavar="URL", help="In place of redis.url."),
    ):
        command = option(command)
    return common(command)


def overrides(
    redis_url: str | None, workers: str | None, processes: str | None, queue: tuple[str, ...], log_level: str | None
) -> dict[str, Any]:
    """What the options of `working` set, by dotted path."""
    values = {
        "redis.url": redis_url,
        "executor.workers": workers,
        "executor.processes": processes,
        "executor.queue": list(queue) or None,
        "logging.level": log_level,
    }
    return {name: value for name, value in values.items() if value is not None}
