"""Options that may stand before a command or behind it, in both commands alike: `--config`, `--profile`, `--json` and so on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

CONFIG = ("--config", "-c")
_CONFIG_HELP = "The deployment's flowcraft.yaml; by default the nearest one from here upwards."


_GIVEN = "flowcraft.options"
"""The key under which a command's context, which those of the commands in it share, keeps these options."""


def keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keep an option for `given`, wherever it stands; behind the command it counts before one in front of it."""
    if param.name is not None and value not in (None, False):
        ctx.meta.setdefault(_GIVEN, {})[param.name] = value
    return value


def given(ctx: click.Context, name: str) -> Any:
    """The value of one of these options, None if it was not given."""
    return ctx.meta.get(_GIVEN, {}).get(name)


def _option(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=keep, **settings)


def deployment_options() -> list[click.Parameter]:
    """The options that say which deployment `flowcraft` works with."""
    return [
        _option(*CONFIG, type=click.Path(dir_okay=False, path_type=Path), help=_CONFIG_HELP),
        _option("--url", metavar="URL", help="Address of Redis, in place of the file's; by default $REDIS_URL."),
        _option("--namespace", metavar="NAME", help="The deployment's name, along with --url."),
        _option(
            "--server",
            metavar="URL",
            help="Address of the HTTP API, to use in place of Redis; by default $FLOWCRAFT_SERVER.",
        ),
        _option(
            "--token", metavar="TOKEN", help="Token for it; better $FLOWCRAFT_TOKEN, as other users see command lines."
        ),
        _option("--profile", metavar="NAME", help="Profile of the file; by default $FLOWCRAFT_PROFILE."),
    ]


def add_to_commands(group: click.Group, options: Callable[[], Sequence[click.Parameter]]) -> None:
    """Give every command of a group, and of the groups in it, the options that the group has itself."""
    for command in group.commands.values():
        taken = {name for param in command.params for name in param.opts}
        command.params += [param for param in options() if not taken & set(param.opts)]
        if isinstance(command, click.Group):
            add_to_commands(command, options)


def _or_before(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    return value or bool(given(ctx, "as_json"))


as_json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, callback=_or_before, help="Print JSON, also of errors."
)
"""`--json`, behind a command or before it."""

json_before: Decorator = click.option(
    "--json", "as_json", is_flag=True, expose_value=False, callback=keep, help="Print JSON, also of errors."
)
"""`--json` before the commands of a group."""
