"""Runs the demonstration. Exit code 0 if every run ended as it was to, 1 if not."""

import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowcraft_sdk import Client, FlowcraftError, Handle, RunStatus
from flowcraft_server.config.load import load_settings
from flowcraft_server.llm import LLMSettingsError, build_models

from .agents import RUNS, SHOWN_RUNS, SLOW_RUN, AgentRun
from .progress import Follower, watch, went_as_planned
from .server import DemoServer, ServerFailed

if TYPE_CHECKING:
    from rich.console import Console

TIMEOUT = 60.0
CANCEL_AFTER = 0.8
BLUEPRINTS = Path(__file__).parent / "blueprints"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "-c", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="flowcraft.yaml")
@click.option("--llm", default="scripted", show_default=True, help="Provider of llm.providers to ask; or auto.")
@click.option("--ui", is_flag=True, help="Keep the server up afterwards, to look at the runs in the web pages.")
def main(config: Path, llm: str, ui: bool) -> None:
    """Run all four agents on a server that is started for it, and print what they say."""
    from rich.console import Console

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C, the server is not left behind
    console = Console(highlight=False, markup=False, soft_wrap=True)
    config = config.resolve()
    name, scripted, folders = _deployment(config, llm)
    begin = time.monotonic()
    server = DemoServer(config, name, llm, [*folders, str(BLUEPRINTS)] if ui else ())
    try:
        with server, server.connect() as client:
            console.print(f"A server is up after {time.monotonic() - begin:.1f} s; {len(RUNS) + 1} runs begin.\n")
            followers = _run_all(client, console)
            _print_outputs(followers, console)
            failed = [follower for follower in followers if not went_as_planned(follower)]
            if failed:
                raise ServerFailed("not as planned: " + ", ".join(follower.run_.label for follower in failed))
            if scripted:
                console.print("Scripted replies, no model was called.")
            ends = [str(follower.run_.ends) for follower in followers]
            counts = ", ".join(f"{ends.count(status)} {status}" for status in dict.fromkeys(ends))
            console.print(f"{len(ends)} runs: {counts}. All in {time.monotonic() - begin:.1f} s.")
            if ui:
                _keep_up(server, client, console)
    except (ServerFailed, FlowcraftError) as error:
        raise click.ClickException(f"{error}\nThe server's log: {server.log}") from None
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    console.print("The server has ended; nothing is left behind.")


def _deployment(config: Path, llm: str) -> tuple[str, bool, list[str]]:
    """The deployment's name, whether the provider's replies are scripted, and the folders of its blueprints."""
    loaded = load_settings(config, overrides={"llm.default": llm})
    if loaded.settings is None:
        raise click.UsageError("\n".join(str(diagnostic) for diagnostic in loaded.errors))
    try:
        models = build_models(loaded.settings.llm, base=loaded.folder)
    except LLMSettingsError as error:
        raise click.UsageError(str(error)) from None
    return loaded.settings.name, models.default.scripted, list(loaded.settings.blueprints.dirs)


def _keep_up(server: DemoServer, client: Client, console: "Console") -> None:
    """Start what there is to look at besides, say where, and stay until Ctrl-C.

    Raises:
        ServerFailed: the server has ended.
    """
    for run in SHOWN_RUNS:
        client.start(run.blueprint, run.context, tags=["demo"]).wait_for(run.ends, timeout=TIMEOUT)
    console.print(f"One more run waits for your answer, and one has failed. Look at them all: {server.pages()}")
    console.print("Ctrl-C ends the server.")
    with suppress(KeyboardInterrupt):
        server.wait()


def _run_all(client: Client, console: "Console") -> list[Follower]:
    """Start all runs at once, show them, cancel the slow one on the way."""
    begin = time.monotonic()
    lines = None if console.is_terminal else console

    def begin_run(run: AgentRun) -> Follower:
        return Follower(run, client.start(run.blueprint, run.context, tags=["demo"]), lines, begin)

    followers = [begin_run(run) for run in (*RUNS, SLOW_RUN)]
    for follower in followers:
        follower.start()
    cancelling = threading.Timer(CANCEL_AFTER, _cancel, [followers[-1].handle])
    cancelling.start()
    watch(followers, console, begin, TIMEOUT)
    cancelling.join()
    return followers


def _cancel(handle: Handle[Any]) -> None:
    with suppress(FlowcraftError):  # the run then ends as it was not to, which is printed
        handle.cancel("it would have taken a minute")


def _print_outputs(followers: Sequence[Follower], console: "Console") -> None:
    for follower in followers:
        snapshot = follower.snapshot
        console.print(f"\n── {follower.run_.label} ", end="")
        console.print("─" * (60 - len(follower.run_.label)), style="dim")
        if follower.error is not None or snapshot is None:
            console.print(f"cannot be followed: {follower.error}", style="red")
        elif snapshot.status is RunStatus.COMPLETED:
            console.print(_final_output(snapshot.output))
        elif snapshot.cancel is not None:
            console.print(f"{snapshot.status}: {snapshot.cancel.reason}")
        else:
            why = snapshot.failures[0].summary if snapshot.failures else "it has not ended"
            console.print(f"{snapshot.status}: {why}", style="red")
    console.print()


def _final_output(output: Any) -> str:
    return str(output.get("final_output", output)) if isinstance(output, dict) else str(output)


if __name__ == "__main__":
    main()
