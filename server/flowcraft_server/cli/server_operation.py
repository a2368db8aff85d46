"""`flowcraft-server reload` and `drain`: what running servers are asked to do."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_FAILED
from .server_answers import print_answers, waiting_option
from .server_loading import errors_printed, known_url, settings_or_exit
from .server_options import common
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import ServerAnswer
    from flowcraft_sdk._client.admin import Admin


@click.command()
@common
@click.option("--workers", "restart_workers", is_flag=True, help="Replace worker processes in any case.")
@click.option("--this-host", is_flag=True, help="Ask the servers of this host only.")
@waiting_option
@as_json_option
def reload(
    file: Path, profile: str | None, restart_workers: bool, this_host: bool, timeout: float, as_json: bool
) -> None:
    """Have the running servers of this deployment read their blueprints again, and print what each did.

    Worker processes whose code or settings have changed are replaced, one after the other. Exit code 1 if a server has
    found mistakes, or has not answered in time.
    """
    _ask_servers(file, profile, as_json, lambda admin, host: admin.reload(
        restart_workers=restart_workers, host=host, timeout=timeout
    ), this_host)  # fmt: skip


@click.command()
@common
@click.option("--worker", metavar="ID", help="Only the process of this worker; `flowcraft worker list` lists them.")
@click.option("--this-host", is_flag=True, help="Ask the servers of this host only.")
@waiting_option
@as_json_option
def drain(file: Path, profile: str | None, worker: str | None, this_host: bool, timeout: float, as_json: bool) -> None:
    """Have the running servers of this deployment take no more work, finish what runs, and end.

    Exit code 1 if one has not ended in time; it ends in any case, after `executor.drainTimeout`.
    """
    _ask_servers(file, profile, as_json, lambda admin, host: admin.drain(worker, host=host, timeout=timeout), this_host)


def _ask_servers(
    file: Path, profile: str | None, as_json: bool, ask: "Callable[[Admin, str | None], list[ServerAnswer]]", here: bool
) -> None:
    """Ask server processes something, and print their answers."""
    from flowcraft_sdk import BackendUnavailableError, Client
    from flowcraft_server.config.load import load_settings
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.store.embedded import running_url

    loaded = load_settings(file, profile=profile)
    settings = settings_or_exit(loaded)
    configure_logging("warning", "pretty", secrets=loaded.secrets)
    with errors_printed(), Client(known_url(loaded, settings), namespace=settings.name) as client:
        try:
            answers = ask(client.admin, socket.gethostname() if here else None)
        except BackendUnavailableError:
            if not settings.redis.embedded or running_url(loaded.place(settings.redis.data_dir)) is not None:
                raise
            line = "the server has ended, and its embedded store with it"
            (write_json if as_json else write)({"drained": line} if as_json else line)
            return
    print_answers(answers, as_json)
    if not all(answer.ok and answer.done for answer in answers):
        sys.exit(EXIT_FAILED)
