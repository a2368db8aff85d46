"""The `flowcraft` command: start runs, and look after them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server import __version__

from .client_admin import dlq, doctor
from .client_blueprint import blueprint
from .client_errors import DEFAULT_ADDRESS, EXIT_FAILED, Commands, run_goes_on
from .client_input import DurationParam, InputFile, InputFileType, open_client, start_context, uses_default_address
from .client_output import event_line, outcome, print_output, print_run, print_runs
from .client_signal import signal
from .shared_options import add_to_commands, as_json_option, deployment_options, given, json_before
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, Handle, RunSnapshot

STATUSES = (
    "scheduled",
    "queued",
    "running",
    "waiting",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
)

timeout_option = click.option(
    "--timeout", type=DurationParam(), metavar="SPAN", help="Wait no longer than this, such as 30s."
)
key_option = click.option("--key", metavar="KEY", help="Print only this key of the result.")


@click.group(cls=Commands, params=deployment_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowcraft")
@json_before
@click.pass_context
def main(ctx: click.Context) -> None:
    """Start runs of blueprints, and look after them.

    The options below may stand before a command or behind it. Exit codes: 0 fine, 1 the run failed or was cancelled, 2 wrong
    usage or no connection, 3 no such run or blueprint, 4 the wait timed out, 130 interrupted.
    """

    def connect() -> "Client":
        config, url = given(ctx, "config"), given(ctx, "url")
        if config is not None and url is not None:
            raise click.UsageError("--config and --url exclude each other")
        if config is None and url is None and uses_default_address():
            ctx.meta[DEFAULT_ADDRESS] = True
        return ctx.with_resource(open_client(config, url, given(ctx, "namespace"), given(ctx, "profile")))

    ctx.obj = connect


@main.command()
@click.argument("blueprint")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A value of the start context.")
@click.option("-f", "--file", type=InputFileType(), help="A start context as JSON; - is standard input.")
@click.option("--id", "run_id", metavar="ID", help="Id of the run; started again with the same id, it is only found.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag to find the run by.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result.")
@click.option("--follow", is_flag=True, help="As --wait, and show on standard error what happens meanwhile.")
@timeout_option
@key_option
@as_json_option
@click.pass_obj
def start(
    connect: Callable[[], "Client"],
    blueprint: str,
    pairs: tuple[str, ...],
    file: InputFile | None,
    run_id: str | None,
    tags: tuple[str, ...],
    wait: bool,
    follow: bool,
    timeout: float | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Start a run of BLUEPRINT and print its id.

    A value of -i is read as JSON if it is JSON, else it is text: n=3 is a number, n='"3"' and name=Ada are texts.
    """
    if not (wait or follow) and (timeout is not None or key is not None):
        raise click.UsageError("--timeout and --key go with --wait or --follow")
    context = start_context(pairs, file)
    handle = connect().start(blueprint, context, run_id=run_id, tags=tags)
    if wait or follow:
        snapshot = _wait_for(handle, timeout, follow=follow)
        _print_outcome(snapshot, key, as_json)
    elif as_json:
        write_json({"run_id": handle.run_id, "blueprint_id": blueprint, "attached": handle.attached})
    else:
        write(handle.run_id)


@main.command()
@click.argument("run_id", metavar="RUN")
@as_json_option
@click.pass_obj
def status(connect: Callable[[], "Client"], run_id: str, as_json: bool) -> None:
    """Print the status of RUN."""
    found = connect().get_handle(run_id).status()
    if as_json:
        write_json({"run_id": run_id, "status": found.value})
    else:
        write(found.value)


@main.command()
@click.argument("run_id", metavar="RUN")
@timeout_option
@key_option
@as_json_option
@click.pass_obj
def result(connect: Callable[[], "Client"], run_id: str, timeout: float | None, key: str | None, as_json: bool) -> None:
    """Wait for the end of RUN and print its result."""
    _print_outcome(_wait_for(connect().get_handle(run_id), timeout), key, as_json)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--reason", default="", help="Why; kept with the run.")
@click.option(
    "--grace", type=DurationParam(), metavar="SPAN", help="How long running nodes may take to stop; 0 for not at all."
)
@as_json_option
@click.pass_obj
def cancel(connect: Callable[[], "Client"], run_id: str, reason: str, grace: float | None, as_json: bool) -> None:
    """Ask RUN and its subflows to stop. A run that had ended stays as it is."""
    handle = connect().get_handle(run_id)
    in_force = handle.cancel(reason, grace=grace)
    now = handle.status()
    if as_json:
        write_json({"run_id": run_id, "cancelled": in_force, "status": now.value})
    else:
        write(now.value if in_force else f"had ended before: {now.value}")


main.add_command(signal)
main.add_command(blueprint)


@main.command("list")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only runs in this status.")
@click.option("--blueprint", metavar="ID", help="Only runs of this blueprint.")
@click.option("--tag", metavar="TAG", help="Only runs with this tag.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json_option
@click.pass_obj
def list_(
    connect: Callable[[], "Client"],
    statuses: tuple[str, ...],
    blueprint: str | None,
    tag: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    from flowcraft_sdk import RunStatus

    wanted = [RunStatus(name) for name in statuses] or None
    runs = connect().list_runs(blueprint_id=blueprint, status=wanted, tag=tag, limit=limit)
    if as_json:
        write_json(list(runs))
    else:
        print_runs(runs)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--ctx", "with_ctx", is_flag=True, help="Show its context too.")
@click.option("--attempts", "unfold", is_flag=True, help="Show each attempt, also of earlier rounds and of items.")
@as_json_option
@click.pass_obj
def show(connect: Callable[[], "Client"], run_id: str, with_ctx: bool, unfold: bool, as_json: bool) -> None:
    """Show RUN: its nodes, attempts, failures."""
    handle = connect().get_handle(run_id)
    snapshot = handle.describe(ctx=with_ctx, outputs=as_json)
    attempts = handle.attempts() if unfold or not as_json else []
    if as_json:
        payloads = {"output": snapshot.output, "ctx": snapshot.ctx}
        plain = {**snapshot.model_dump(exclude=set(payloads)), **payloads}
        write_json(plain | ({"attempts": list(attempts)} if unfold else {}))
    else:
        print_run(snapshot, attempts, unfold=unfold)


def _wait_for(handle: "Handle[Any]", timeout: float | None, *, follow: bool = False) -> "RunSnapshot":
    until = None if timeout is None else time.monotonic() + timeout
    with run_goes_on(handle.run_id):
        if follow:
            write(f"run {handle.run_id}", err=True)
            for event in handle.events(timeout=timeout):
                write(event_line(event), err=True)
        return handle.wait(None if until is None else max(0.0, until - time.monotonic()))


def _print_outcome(snapshot: "RunSnapshot", key: str | None, as_json: bool) -> None:
    """Print the result of an ended run, or how it ended, and leave with the exit code that stands for it."""
    from flowcraft_sdk import RunStatus

    completed = snapshot.status is RunStatus.COMPLETED
    if as_json and completed and key is not None:
        write_json(_chosen(snapshot.output, key))
    elif as_json:
        write_json(outcome(snapshot))
    elif completed:
        print_output(_chosen(snapshot.output, key))
    else:
        why = snapshot.cancel.reason if snapshot.cancel is not None else ""
        if snapshot.failures:
            why = f"node '{snapshot.failures[0].node_id}': {snapshot.failures[0].summary}"
        write(" ".join(f"run {snapshot.run_id} {snapshot.status}{': ' if why else ''}{why}".split()), err=True)
    if not completed:
        raise click.exceptions.Exit(EXIT_FAILED)


def _chosen(output: Any, key: str | None) -> Any:
    if key is None:
        return output
    if not isinstance(output, dict) or key not in output:
        known = ", ".join(output) if isinstance(output, dict) else "none"
        raise click.UsageError(f"the result has no key '{key}'; its keys: {known}")
    return output[key]


main.add_command(dlq)
main.add_command(doctor)
add_to_commands(main, deployment_options)

if __name__ == "__main__":
    main()
