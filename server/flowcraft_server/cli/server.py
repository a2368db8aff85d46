"""`flowcraft-server`: runs and checks a deployment."""

import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server import __version__

from .capacity import capacity
from .client_errors import TextCommands
from .diagnostic_formats import FORMATS
from .examples import SERVER, add_examples
from .server_loading import errors_printed as _errors_printed
from .server_loading import known_url as _known_url
from .server_loading import redis_variable as _redis_variable
from .server_loading import settings_or_exit as _settings_or_exit
from .server_operation import drain, reload
from .server_options import common as _common
from .server_options import overrides as _overrides
from .server_options import working as _working
from .shared_options import CONFIG, as_json_option, json_before, keep
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_server.config.load import LoadResult
    from flowcraft_server.config.model import Settings

EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_TERMINATED = 128 + signal.SIGTERM


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End for a SIGTERM that comes before anything is served, or after. An exception could not be caught there."""
    sys.stdout.flush()
    os._exit(EXIT_TERMINATED)


@click.group(cls=TextCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowcraft-server")
@click.option(
    *CONFIG, "file", expose_value=False, callback=keep, type=click.Path(path_type=Path), help="The deployment's file."
)
@click.option("--profile", metavar="NAME", expose_value=False, callback=keep, help="Profile of the file.")
@json_before
def main() -> None:
    """Run and check a Flowcraft deployment. The options below may stand before a command or behind it."""
    # The first process of a container has no default for SIGTERM: until the workers handle it, it just ends us.
    signal.signal(signal.SIGTERM, _end_at_once)


main.add_command(capacity)
main.add_command(reload)
main.add_command(drain)


@main.command()
@_working
def dev(file: Path, profile: str | None, **options: Any) -> None:
    """Run everything here: a Redis of our own unless redis.url names one, the workers, the blueprints."""
    from flowcraft_server.service.deployment import Deployment
    from flowcraft_server.service.launch import run_deployment
    from flowcraft_server.service.program import restart_this_program
    from flowcraft_server.service.stopping import StopRequests
    from flowcraft_server.store.embedded import EmbeddedStore

    from .server_output import print_started

    overrides = _overrides(**options)
    loaded, settings = _load_or_exit(file, profile, overrides)
    with _errors_printed(), StopRequests().on_signals() as stop:
        store = None
        if settings.redis.embedded:
            store = EmbeddedStore(loaded.place(settings.redis.data_dir), settings.redis.fsync)
        url = settings.redis.url if store is None else store.start()
        try:
            deployment = Deployment(loaded, settings, url, overrides=overrides, command="dev")
            finished = run_deployment(
                deployment,
                stop,
                lenient=True,
                started=lambda published, api: print_started(loaded, settings, url, published, store, api),
                store=store,
            )
            if stop.restart:  # the store keeps running, and the fresh program finds it
                restart_this_program("")
        finally:
            if store is not None:
                store.stop()
    sys.exit(0 if finished else EXIT_FAILED)


@main.command()
@_working
def run(file: Path, profile: str | None, **options: Any) -> None:
    """Run for production on an external Redis: publish the blueprints and work."""
    from flowcraft_server.service.deployment import Deployment
    from flowcraft_server.service.launch import run_deployment
    from flowcraft_server.service.stopping import StopRequests

    overrides = _overrides(**options)
    loaded, settings = _load_or_exit(file, profile, overrides)
    with _errors_printed(), StopRequests().on_signals(reload=not _has_terminal()) as stop:
        deployment = Deployment(loaded, settings, _external_url(loaded, settings), overrides=overrides)
        finished = run_deployment(deployment, stop)
    sys.exit(0 if finished else EXIT_FAILED)


def _has_terminal() -> bool:
    """Whether a terminal may send SIGHUP, as it does when it is closed: that asks to stop, and not to reload."""
    try:
        return os.isatty(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False


@main.command()
@_working
@click.option("--single", is_flag=True, hidden=True, help="One thread, whose process may end for it.")
@click.option("--isolated", is_flag=True, hidden=True, help="Run nothing but suspects of lost workers.")
@click.option("--worker-id", default="", hidden=True, help="The name that the supervisor knows the worker by.")
@click.option("--executing", type=int, hidden=True, help="Descriptor of the record of what is executed.")
@click.option("--parent-pipe", type=int, hidden=True, help="Descriptor that ends with the supervisor.")
def worker(
    file: Path,
    profile: str | None,
    single: bool,
    isolated: bool,
    worker_id: str,
    executing: int | None,
    parent_pipe: int | None,
    **options: Any,
) -> None:
    """Run workers only, for scaling out; the blueprints are published elsewhere."""
    from flowcraft_server.service.deployment import Deployment
    from flowcraft_server.service.launch import run_deployment
    from flowcraft_server.service.parent_watch import end_with_parent
    from flowcraft_server.service.stopping import StopRequests

    parent = os.getppid()
    overrides = _overrides(**options)
    if parent_pipe is not None:
        overrides |= {"executor.processes": 1}
    if single:
        overrides |= {"executor.workerType": "thread", "executor.workers": 1}
    stop = StopRequests()
    with _errors_printed(), stop.on_signals(reload=parent_pipe is None and not _has_terminal()):
        if parent_pipe is not None:
            end_with_parent(parent, parent_pipe, stop.request)
        loaded, settings = _load_or_exit(file, profile, overrides, blueprints=False)
        deployment = Deployment(
            loaded,
            settings,
            _external_url(loaded, settings),
            supervised=parent_pipe is not None,
            single=single,
            isolated=isolated,
            worker_id=worker_id,
            executing=executing,
            overrides=overrides,
            command="worker",
        )
        finished = run_deployment(deployment, stop, publish=False)
    sys.exit(0 if finished else EXIT_FAILED)


@main.command()
@_working
@click.option("--bind", metavar="HOST:PORT", help="In place of api.bind.")
@click.option("--parent-pipe", type=int, hidden=True, help="Descriptor that ends with the supervisor.")
@click.option(
    "--socket", "descriptor", type=int, hidden=True, help="Descriptor of the socket that the supervisor listens on."
)
def api(
    file: Path,
    profile: str | None,
    bind: str | None,
    parent_pipe: int | None,
    descriptor: int | None,
    **options: Any,
) -> None:
    """Serve the HTTP API and the web pages only, beside workers that run elsewhere."""
    from flowcraft_server.api.server import serve_api
    from flowcraft_server.config.load import load_config
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.service.parent_watch import end_with_parent
    from flowcraft_server.service.stopping import StopRequests
    from flowcraft_server.ui.pages import add_pages

    parent = os.getppid()
    overrides = _overrides(**options) | ({"api.bind": bind} if bind is not None else {})
    loaded = load_config(file, profile=profile, overrides=overrides, with_blueprints=False, with_handlers=False)
    settings = _settings_or_exit(loaded)
    configure_logging(
        settings.logging.level, settings.logging.format, secrets=loaded.secrets, names=settings.logging.redact
    )
    stop = StopRequests()
    with _errors_printed(), stop.on_signals():
        if parent_pipe is not None:
            end_with_parent(parent, parent_pipe, stop.request)
        extend = add_pages if settings.api.ui else None
        finished = serve_api(_external_url(loaded, settings), settings, loaded.secrets, stop, descriptor, extend)
    sys.exit(0 if finished else EXIT_FAILED)


@main.command()
@_common
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--offline", is_flag=True, help="Do not look at Redis.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@as_json_option
def check(file: Path, profile: str | None, format_: str, offline: bool, strict: bool, as_json: bool) -> None:
    """Check the file, its handlers, its blueprints, its schedules and its Redis. Exit code 2: a file is wrong, 1: Redis is."""
    from flowcraft_server.config.load import load_config
    from flowcraft_server.observability.logging import configure_logging

    from .diagnostic_output import print_diagnostics, print_suggestions
    from .model_checks import with_model_checks
    from .provider_files import with_provider_files
    from .server_output import print_next_times, print_verdict

    loaded = with_model_checks(with_provider_files(load_config(file, profile=profile)))
    format_ = "json" if as_json else format_
    print_diagnostics(loaded.diagnostics, format_, loaded.path)
    if format_ == "text" and not loaded.errors:
        print_suggestions(loaded.blueprints)
    if format_ == "text" and loaded.settings is not None:
        print_next_times(loaded.settings)
    if loaded.settings is None or (strict and loaded.diagnostics):
        print_verdict(loaded, format_, strict=strict)
        sys.exit(EXIT_INVALID)
    configure_logging("warning", "pretty", secrets=loaded.secrets)
    with _errors_printed():
        about_redis = "not looked at" if offline else _check_redis(loaded, loaded.settings)
    print_verdict(loaded, format_, about_redis)


@main.group()
@json_before
def config() -> None:
    """Look at the configuration."""


@config.command("show")
@_working
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@as_json_option
def config_show(file: Path, profile: str | None, origin: bool, as_json: bool, **options: Any) -> None:
    """Print the settings that count, secrets masked. The options of `run` show what they would change."""
    from flowcraft_server.config.load import load_settings

    from .server_output import print_settings

    loaded = load_settings(file, profile=profile, overrides=_overrides(**options))
    print_settings(loaded, _settings_or_exit(loaded), origin, as_json)


@main.command()
@_common
@click.argument("which", type=click.Choice(["config", "blueprint", "eval"]), required=False)
@click.option("--write", "to_files", is_flag=True, help="Write them to .flowcraft/ beside the file.")
@as_json_option
def schema(file: Path, profile: str | None, which: str | None, to_files: bool, as_json: bool) -> None:
    """Print the JSON Schema of flowcraft.yaml (config), of blueprints or of evaluations, for editors; all without an argument.

    The schema of blueprints knows the deployment's handlers, their params and actions: write it anew when they have changed.
    """
    from flowcraft_server.config.load import load_config

    from .diagnostic_output import print_diagnostics
    from .schema_files import schemas_of, write_schemas

    if to_files and which is not None:
        raise click.UsageError("--write writes all schemas")
    loaded = load_config(file, profile=profile)
    if not loaded.path.is_file():
        raise click.UsageError(f"{file}: no such file; --config names the deployment's file")
    if loaded.errors:
        print_diagnostics(loaded.errors, "text")
    if not to_files:
        schemas = schemas_of(loaded)
        write_json(schemas[which] if which is not None else schemas)
        return
    try:
        files = [os.path.relpath(written) for written in write_schemas(loaded)]
    except OSError as error:
        raise click.ClickException(f"the schemas cannot be written: {error}") from None
    if as_json:
        write_json({"files": files})
    else:
        write("\n".join(files))


@main.command()
@_common
@click.option("--this-host", is_flag=True, help="Look at the workers of this host only: of one container of several.")
@click.option(
    "--liveness",
    is_flag=True,
    help="Of this host, and a Redis that does not answer is no failure: for a probe that restarts.",
)
@as_json_option
def health(file: Path, profile: str | None, this_host: bool, liveness: bool, as_json: bool) -> None:
    """Exit 0 if Redis answers and a worker was seen lately: for the health check of a container."""
    from flowcraft_server.config.load import load_settings
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.service.health import check_health, check_liveness
    from flowcraft_server.store.embedded import running_url

    loaded = load_settings(file, profile=profile)
    settings = _settings_or_exit(loaded)
    configure_logging("error", "pretty", secrets=loaded.secrets)
    url = running_url(loaded.place(settings.redis.data_dir)) if settings.redis.embedded else settings.redis.url
    with _errors_printed():
        url = url or _redis_variable(loaded)
        if liveness:
            found = check_liveness(settings, url, socket.gethostname())
        else:
            found = check_health(settings, url, socket.gethostname() if this_host else None)
        _print_line("health", found, as_json)


@main.command()
@_common
@click.option("--dry", is_flag=True, help="Only say what would be removed.")
@as_json_option
def gc(file: Path, profile: str | None, dry: bool, as_json: bool) -> None:
    """Remove ended runs that are past retention, now; the workers do it by themselves, once a minute."""
    from flowcraft_server.config.load import load_settings
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.service.retention import clean, overdue

    loaded = load_settings(file, profile=profile)
    settings = _settings_or_exit(loaded)
    configure_logging("warning", "pretty", secrets=loaded.secrets)
    with _errors_printed():
        url = _known_url(loaded, settings)
        _print_line("gc", overdue(url, settings) if dry else clean(url, settings), as_json)


def _print_line(what: str, line: str, as_json: bool) -> None:
    if as_json:
        write_json({what: line})
    else:
        write(line)


def _load_or_exit(
    file: Path, profile: str | None, overrides: dict[str, Any], *, blueprints: bool = True
) -> "tuple[LoadResult, Settings]":
    """Load a deployment and set up logging; print what is wrong and exit if anything is."""
    from flowcraft_server.config.load import load_config
    from flowcraft_server.observability.logging import configure_logging

    from .provider_files import with_provider_files

    loaded = load_config(file, profile=profile, overrides=overrides, with_blueprints=blueprints, keep=blueprints)
    loaded = with_provider_files(loaded)
    settings = _settings_or_exit(loaded)
    configure_logging(
        settings.logging.level, settings.logging.format, secrets=loaded.secrets, names=settings.logging.redact
    )
    return loaded, settings


def _external_url(loaded: "LoadResult", settings: "Settings") -> str:
    """The address of a Redis that is not ours: redis.url, or REDIS_URL where the file names none."""
    if not settings.redis.embedded:
        return settings.redis.url
    url = _redis_variable(loaded)
    if url is None:
        raise click.ClickException(
            "this needs a Redis of its own: set redis.url, REDIS_URL or --redis (`flowcraft-server dev` brings one)"
        )
    return url


def _check_redis(loaded: "LoadResult", settings: "Settings") -> str:
    from flowcraft_server.store.binary import find_server
    from flowcraft_server.store.embedded import running_url

    if settings.redis.embedded:
        running = running_url(loaded.place(settings.redis.data_dir), timeout=0.2)
        if running:
            from flowcraft_server.service.deployment import Deployment

            for warning in Deployment(loaded, settings, running).look_for_missing_handlers():
                write(f"warning: {warning}", err=True)
        return f"embedded, by {find_server()}"
    return _check_external_redis(loaded, settings)


def _check_external_redis(loaded: "LoadResult", settings: "Settings") -> str:
    from flowcraft_sdk.protocol.keys import Keys
    from flowcraft_server.service.deployment import Deployment
    from flowcraft_server.service.redis_checks import (
        RedisUnusable,
        check_durability,
        check_protocol,
        find_problems,
        shown_url,
        wait_for_redis,
        warnings_about,
    )
    from flowcraft_server.service.redis_report import describe_redis, recommendations

    url = settings.redis.url
    client = wait_for_redis(url, settings.redis.connect_timeout)
    diagnostics = find_problems(client, url)
    if diagnostics and settings.redis.require_no_eviction:
        raise RedisUnusable("; ".join(diagnostics))
    deployment = Deployment(loaded, settings, url)
    check_protocol(client, url, deployment.partitions)
    found = (*deployment.look_for_others(client), *deployment.look_for_missing_handlers())
    for warning in (*warnings_about(client, url, settings.redis.partitions), *found):
        write(f"warning: {warning}", err=True)
    for recommended in recommendations(client, url, settings.redis.durability):
        write(f"recommended: {recommended}", err=True)
    check_durability(client, url, Keys(settings.name), settings.redis.durability)
    return f"{shown_url(url)} ({describe_redis(client, url, settings.redis.partitions)})"


add_examples("flowcraft-server", main, SERVER)

if __name__ == "__main__":
    main()
