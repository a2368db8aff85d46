"""What `flowcraft` reads from its command line: a start context, spans of time, and where the deployment is."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .shared_options import given

if TYPE_CHECKING:
    from flowcraft_sdk import Client

CONFIG_FILE = "flowcraft.yaml"
CONFIG_VARIABLE = "FLOWCRAFT_CONFIG"
SERVER_VARIABLE = "FLOWCRAFT_SERVER"
"""As the SDK has it, which is loaded only by commands that need it."""


class DurationParam(click.ParamType[float]):
    """A span of time: `30s`, `500ms`, `1h30m`, or a number of seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the span in seconds."""
        from flowcraft_sdk.protocol.bounds import LONGEST_SPAN, shown
        from flowcraft_sdk.protocol.durations import parse_duration

        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parse_duration(value)
            except ValueError as error:
                self.fail(f"{error}", param, ctx)
        if not 0 <= seconds <= LONGEST_SPAN:  # not a number is never between
            self.fail(f"expected a span of time such as 30s, 100 years at most, got {shown(value)}", param, ctx)
        return seconds


class MomentParam(click.ParamType[datetime]):
    """A moment: a span before now such as `1d`, or a date with or without a time, in the local time zone unless it names one."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, with a time zone."""
        from flowcraft_sdk.protocol.bounds import LONGEST_SPAN, shown
        from flowcraft_sdk.protocol.durations import parse_duration

        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            seconds = LONGEST_SPAN + 1
        try:
            seconds = parse_duration(value)
        except ValueError:
            pass
        if seconds > LONGEST_SPAN:
            known = "a span before now such as 1d, or a moment such as 2026-01-31T12:00"
            self.fail(f"expected {known}, got {shown(value)}", param, ctx)
        return datetime.now(UTC) - timedelta(seconds=seconds)


LARGEST_INPUT = 64 * 1024 * 1024
"""Bytes of JSON that a command reads from a file or from standard input."""


@dataclass(frozen=True)
class InputFile:
    """What stands in a file that was named on the command line; `name` is for messages."""

    name: str
    content: bytes


class InputFileType(click.ParamType[InputFile]):
    """A regular file, or `-` for standard input, read as a whole. A named pipe might be waited at for ever."""

    name = "filename"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> InputFile:
        """Return what the file holds."""
        from flowcraft_sdk._config.regular_file import read_regular_file

        if value == "-":
            content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
            if len(content) > LARGEST_INPUT:
                self.fail(f"standard input: it is larger than {LARGEST_INPUT // 2**20} MiB", param, ctx)
            return InputFile("standard input", content)
        try:
            return InputFile(str(value), read_regular_file(value, LARGEST_INPUT))
        except OSError as error:
            hint = "; - is standard input"
            if isinstance(error, FileNotFoundError):
                from flowcraft_server.blueprints.loading.near_file import meant_file

                hint = meant_file(Path(value))
            self.fail(f"'{value}': {error.strerror}{hint}", param, ctx)


def read_json(file: InputFile) -> Any:
    """Read the JSON value of a file.

    Raises:
        click.UsageError: it holds none.
    """
    try:
        return json.loads(file.content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise click.UsageError(f"{file.name}: not JSON: {error}") from None


def start_context(
    pairs: Iterable[str], file: InputFile | None, what: str = "a start context", option: str = "-i"
) -> dict[str, Any]:
    """Put a start context together: the object in `file`, and over it the pairs `key=value`.

    A value is read as JSON if it is JSON, else it is text: `n=3` is a number, `n="3"` and `name=Ada` are texts.

    Raises:
        click.UsageError: the file does not hold a JSON object, a pair has no `=`, or its value begins as JSON does and is none.
    """
    context: dict[str, Any] = {}
    if file is not None:
        loaded = read_json(file)
        if not isinstance(loaded, Mapping):
            raise click.UsageError(f"{file.name}: {what} is a JSON object, this is a {type(loaded).__name__}")
        context.update(loaded)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option} {pair}: expected key=value")
        context[key] = _value(key, text, option)
    return context


def open_client(config: Path | None, url: str | None, namespace: str | None, profile: str | None = None) -> "Client":
    """Make a client of the deployment that is meant. Opens no connection.

    Args:
        config: the deployment's file.
        url: address of Redis; it counts before any file.
        namespace: the deployment's name, where no file says it.
        profile: name of a profile of the file.

    Without either, the nearest `flowcraft.yaml` from the current folder upwards says where Redis is; without one,
    the environment does (`FLOWCRAFT_REDIS_URL`, `REDIS_URL`).

    Raises:
        FlowcraftError: the file or the address cannot be used.
    """
    from flowcraft_sdk import Client

    if url is None:
        found = config or nearest_config()
        if found is not None:
            return Client.from_config(found, profile=profile)
    return Client(url, namespace=namespace)


def open_http_client(server: str, token: str | None) -> "Client":
    """Make a client of the HTTP API at an address. Opens no connection.

    Raises:
        FlowcraftError: the address or the token cannot be used.
    """
    from flowcraft_sdk import HttpClient

    return HttpClient(server, token=token)


def server_address(ctx: click.Context) -> str | None:
    """The address of the HTTP API that is to be used in place of Redis; None for Redis.

    Raises:
        click.UsageError: options for both are given.
    """
    server: str | None = given(ctx, "server")
    redis = [name for name in ("config", "url", "namespace", "profile") if given(ctx, name) is not None]
    if server is not None and redis:
        raise click.UsageError(f"--server and --{redis[0]} exclude each other")
    if server is None and not redis:
        server = os.environ.get(SERVER_VARIABLE) or None
    if server is None and given(ctx, "token") is not None:
        raise click.UsageError("--token goes with --server")
    return server


def uses_default_address() -> bool:
    """Whether neither a file nor the environment says where Redis is."""
    from flowcraft_sdk._transport.connector import address_in

    return nearest_config() is None and address_in(os.environ) is None


@contextmanager
def texts_explained(pairs: Iterable[str], option: str = "-i") -> Iterator[None]:
    """Add to the error about a context how a value that was read as a number is written as a text.

    Raises:
        InvalidInputError: the one of the block.
    """
    from flowcraft_sdk import InvalidInputError

    try:
        yield
    except InvalidInputError as error:
        given = {key: text for key, _, text in (pair.partition("=") for pair in pairs)}
        wanted = {
            each["loc"][0] for each in error.errors if len(each["loc"]) == 1 and "expected string, got" in each["msg"]
        }
        hints = [
            f"{key}={text} is no text, {option} '{key}=\"{text}\"' is one"
            for key, text in given.items()
            if key in wanted and text.strip()[:1] not in ("{", "[", '"')
        ]
        if not hints:
            raise
        raise InvalidInputError("; ".join([str(error), *hints]), error.errors) from None


def _value(key: str, text: str, option: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise click.UsageError(
                f"{option} {key}: it begins as JSON does and is none: {error}; a text that begins so is written in JSON's quotes"
            ) from None
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def nearest_config() -> Path | None:
    """The deployment's file that the environment names, or the nearest one from here upwards; None if there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    here = Path.cwd()
    places = (folder / CONFIG_FILE for folder in (here, *here.parents))
    return next((place for place in places if place.is_file()), None)
