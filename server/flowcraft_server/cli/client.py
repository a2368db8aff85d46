"""The `flowcraft` command: start runs, and look after them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server import __version__

from .client_admin import dlq, doctor
from .client_backup import backup, restore
from .client_blueprint import blueprint
from .client_completion import complete_ids, completion
from .client_errors import DEFAULT_ADDRESS, Commands, TextCommands, run_goes_on
from .client_eval import eval_
from .client_exec import exec_
from .client_init import init
from .client_input import (
    DurationParam,
    InputFile,
    InputFileType,
    open_client,
    open_http_client,
    server_address,
    start_context,
    texts_explained,
    uses_default_address,
)
from .client_logs import logs
from .client_memory import memory
from .client_output import event_line, print_outcome, print_run
from .client_queue import queue
from .client_runs import cancel, events, list_, rerun, rm
from .client_schedule import schedule
from .client_signal import send, signal
from .client_stream import stream
from .client_test import test
from .client_usage import usage
from .client_watch import watch
from .client_worker import worker
from .examples import FLOWCRAFT, add_examples
from .shared_options import add_to_commands, as_json_option, deployment_options, given, json_before
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, Handle, RunSnapshot
    from flowcraft_sdk._operations.start import Priority

PRIORITIES = ("high", "normal", "low")
"""As the SDK has it, which is loaded only by commands that need it."""

timeout_option = click.option(
    "--timeout", type=DurationParam(), metavar="SPAN", help="Wait no longer than this, such as 30s."
)
result_key_option = click.option("--result-key", "key", metavar="KEY", help="Print only this key of the result.")


@click.group(cls=Commands, params=deployment_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowcraft")
@json_before
@click.pass_context
def main(ctx: click.Context) -> None:
    """Start runs of blueprints, and look after them.

    The options below may stand before a command or behind it. Exit codes: 0 fine, 1 the run failed or was cancelled, 2 wrong
    usage or no connection, 3 no such run, blueprint or schedule, 4 the wait timed out, 130 interrupted.
    """

    def connect() -> "Client":
        config, url = given(ctx, "config"), given(ctx, "url")
        if config is not None and url is not None:
            raise click.UsageError("--config and --url exclude each other")
        server = server_address(ctx)
        if server is not None:
            return ctx.with_resource(open_http_client(server, given(ctx, "token")))
        if config is None and url is None and uses_default_address():
            ctx.meta[DEFAULT_ADDRESS] = True
        return ctx.with_resource(open_client(config, url, given(ctx, "namespace"), given(ctx, "profile")))

    ctx.obj = connect


@main.command()
@click.argument("blueprint")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="A value of the start context.")
@click.option("-f", "--file", type=InputFileType(), help="A start context as JSON; - is standard input.")
@click.option("--id", "run_id", metavar="ID", help="Id of the run; started again with the same id, it is only found.")
@click.option("--key", metavar="KEY", help="What the run is counted by, with a limit of concurrent runs per key.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag to find the run by.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Which ready nodes are claimed first.")
@click.option("--usd", type=float, metavar="AMOUNT", help="What its model calls may cost at most, in US dollars.")
@click.option("--tokens", metavar="COUNT", help="How many tokens they may use at most, such as 200k.")
@click.option("--delay", type=DurationParam(), metavar="SPAN", help="Begin so much later, such as 10m.")
@click.option(
    "--run-timeout", type=DurationParam(), metavar="SPAN", help="How long the whole run may take, queueing included."
)
@click.option(
    "--memo",
    "memo_pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value that `show` prints; the run does not see it.",
)
@click.option("--wait", is_flag=True, help="Wait for the end and print the result.")
@click.option("--follow", is_flag=True, help="As --wait, and show on standard error what happens meanwhile.")
@timeout_option
@click.option("--result-key", metavar="KEY", help="Print only this key of the result.")
@as_json_option
@click.pass_obj
def start(
    connect: Callable[[], "Client"],
    blueprint: str,
    pairs: tuple[str, ...],
    file: InputFile | None,
    run_id: str | None,
    key: str | None,
    tags: tuple[str, ...],
    priority: "Priority | None",
    usd: float | None,
    tokens: str | None,
    delay: float | None,
    run_timeout: float | None,
    memo_pairs: tuple[str, ...],
    wait: bool,
    follow: bool,
    timeout: float | None,
    result_key: str | None,
    as_json: bool,
) -> None:
    """Start a run of BLUEPRINT and print its id.

    A value of -i is read as JSON if it is JSON, else it is text: n=3 is a number, n='"3"' and name=Ada are texts.
    """
    if not (wait or follow) and (timeout is not None or result_key is not None):
        raise click.UsageError("--timeout and --result-key go with --wait or --follow")
    context = start_context(pairs, file)
    memo = start_context(memo_pairs, None, option="--memo")
    with texts_explained(pairs):
        handle = connect().start(
            blueprint,
            context,
            run_id=run_id,
            key=key,
            tags=tags,
            priority=priority,
            budget={name: value for name, value in (("usd", usd), ("tokens", tokens)) if value is not None} or None,
            delay=delay,
            run_timeout=run_timeout,
            memo=memo,
        )
    if wait or follow:
        snapshot = _wait_for(handle, timeout, follow=follow)
        print_outcome(snapshot, result_key, as_json)
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
@result_key_option
@as_json_option
@click.pass_obj
def result(connect: Callable[[], "Client"], run_id: str, timeout: float | None, key: str | None, as_json: bool) -> None:
    """Wait for the end of RUN and print its result."""
    print_outcome(_wait_for(connect().get_handle(run_id), timeout), key, as_json)


main.add_command(cancel)
main.add_command(rerun)
main.add_command(rm)
main.add_command(list_)
main.add_command(events)
main.add_command(logs)
main.add_command(watch)
main.add_command(stream)
main.add_command(signal)
main.add_command(send)
main.add_command(blueprint)


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


main.add_command(queue)
main.add_command(dlq)
main.add_command(doctor)
main.add_command(memory)
main.add_command(init)
main.add_command(backup)
main.add_command(restore)
main.add_command(exec_)
main.add_command(eval_)
main.add_command(schedule)
main.add_command(test)
main.add_command(usage)
main.add_command(worker)


@main.group(cls=TextCommands)
def run() -> None:
    """Look after a run: `flowcraft run watch RUN` is `flowcraft watch RUN`, and so on."""


for _name in ("list", "show", "watch", "logs", "events", "status", "result", "signal", "send", "cancel", "rerun", "rm"):
    run.add_command(main.commands[_name])
main.add_command(completion)
add_to_commands(main, deployment_options)
add_examples("flowcraft", main, FLOWCRAFT)
complete_ids(main)

if __name__ == "__main__":
    main()
