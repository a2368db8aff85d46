"""The section `mcp` of `flowcraft.yaml`: servers whose tools agents may call."""

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from .sections import NamePattern, Seconds, Section, mistake

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")


class McpServerSection(Section):
    """A server that speaks the Model Context Protocol: at an address, or a program that is started.

    Attributes:
        url: Its address, of one that is reached by HTTP.
        headers: Headers of each request, such as `Authorization`.
        command: Program and arguments, of one that is started and spoken to by its input and output.
        env: Variables of its environment. It inherits none but a few such as `PATH`.
        tools: Patterns of the names of tools that agents may call, such as `get_*`.
        prefix: What stands before the names of its tools, with `_` behind; its own name by default.
        connect_timeout: Time limit of connecting.
        timeout: Time limit of a call.
    """

    url: str | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    command: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    env: dict[str, SecretStr] = Field(default_factory=dict)
    tools: Annotated[tuple[NamePattern, ...], Field(min_length=1, max_length=1000)] = ("*",)
    prefix: str | None = None
    connect_timeout: Seconds = 30.0
    timeout: Seconds = 60.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
            raise mistake(f"expected an http:// or https:// address, got {url!r}")
        return url

    @field_validator("prefix")
    @classmethod
    def _is_name(cls, prefix: str | None) -> str | None:
        if prefix is not None and not NAME.fullmatch(prefix):
            raise mistake(f"expected 1 to 32 letters, digits, _ and -, got {prefix!r}")
        return prefix

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.url is None) == (not self.command):
            raise mistake("a server has a `url` or a `command`, one of the two")
        if self.command and self.headers:
            raise mistake("a server that is started has no headers; its secrets go into `env`", at="headers")
        if self.url is not None and self.env:
            raise mistake("a server at an address has no environment; its secrets go into `headers`", at="env")
        return self


def check_servers(servers: dict[str, McpServerSection]) -> None:
    """Make sure that names of servers can begin names of tools."""
    for name in servers:
        if not NAME.fullmatch(name):
            raise mistake(f"a server's name has 1 to 32 letters, digits, _ and -, got {name!r}")
