"""The section `api` of `flowcraft.yaml`: the HTTP API, and which requests it accepts."""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from .quantities import Duration, Size
from .sections import Section, mistake

SHORTEST_TOKEN = 16
ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,252})|\[?[0-9A-Fa-f:]+\]?")


class ApiTokenSection(Section):
    """A token and what its bearer may do.

    Attributes:
        name: What the log calls its bearer.
        role: `view` reads, `operate` also starts, cancels and signals runs, `admin` may do everything.
        token: The token, of 16 characters at least.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    role: Literal["view", "operate", "admin"]
    token: SecretStr

    @field_validator("token")
    @classmethod
    def _is_long(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if len(text) < SHORTEST_TOKEN:
            raise mistake(f"needs {SHORTEST_TOKEN} characters at least; `openssl rand -hex 24` makes one")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise mistake("may only have printable ASCII characters without spaces, as it is sent in a header")
        return token


class ApiAuthSection(Section):
    """Which requests are accepted.

    Attributes:
        tokens: The tokens; without any, each request is accepted, which only a loopback address may do.
        session: How long a browser stays logged in.
    """

    tokens: tuple[ApiTokenSection, ...] = ()
    session: Annotated[Duration, Field(ge=60, le=30 * 86_400)] = 12 * 3600.0

    @field_validator("tokens")
    @classmethod
    def _once_each(cls, tokens: tuple[ApiTokenSection, ...]) -> tuple[ApiTokenSection, ...]:
        for what, values in (
            ("name", [token.name for token in tokens]),
            ("token", [token.token.get_secret_value() for token in tokens]),
        ):
            if len(set(values)) < len(values):
                raise mistake(f"two of them have the same {what}")
        return tokens


class ApiSection(Section):
    """The HTTP API. `on` and `off` are short for `enabled`.

    Attributes:
        enabled: Whether `dev` and `run` serve it.
        bind: Address and port that it listens on.
        ui: Whether it serves the web pages, too.
        metrics: Whether `/metrics` is answered without a token; it names blueprints, handlers and queues.
        read_only: Whether requests that change something are refused.
        auth: Which requests are accepted.
        allowed_hosts: Names that requests may ask for besides `localhost`, such as `flows.example.org` or `*.example.org`.
        max_request: The largest body of a request.
    """

    short_form = "enabled"

    enabled: bool = True
    bind: str = "127.0.0.1:8088"
    ui: bool = True
    metrics: bool = True
    read_only: bool = False
    auth: ApiAuthSection = ApiAuthSection()
    allowed_hosts: tuple[str, ...] = ()
    max_request: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 16 * 1024 * 1024

    @field_validator("bind", mode="before")
    @classmethod
    def _is_address(cls, bind: Any) -> Any:
        found = ADDRESS.fullmatch(bind) if isinstance(bind, str) else None
        if bind is not None and (found is None or int(found["port"]) > 65_535):
            raise mistake(f"expected HOST:PORT such as 127.0.0.1:8088 or [::1]:8088, got '{str(bind)[:80]}'")
        return bind

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if HOST_NAME.fullmatch(host) is None:
                raise mistake(
                    f"expected names such as flows.example.org or *.example.org, without a port, got '{host[:80]}'"
                )
        return tuple(host.lower() for host in hosts)

    @model_validator(mode="after")
    def _others_need_a_token(self) -> Self:
        if not self.auth.tokens and not self.is_loopback:  # `flowcraft-server api` serves it in any case
            raise mistake(f"{self.host} needs api.auth.tokens (anyone could start runs); or bind 127.0.0.1", at="bind")
        return self

    @property
    def host(self) -> str:
        """The host of `bind`, an IPv6 address without its brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `bind`; 0 for any that is free."""
        return int(self.bind.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
