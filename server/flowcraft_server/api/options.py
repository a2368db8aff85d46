"""What the API is set to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowcraft_server.config.model import Settings
from flowcraft_server.observability.redaction import Redactor

from .access import Role, Token
from .webhook import Hook

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names that a request may always ask for."""


@dataclass(frozen=True)
class ApiOptions:
    """What the API is set to do.

    Attributes:
        tokens: senders and their roles; without any, each sender may do everything.
        read_only: whether requests that change something are refused.
        allowed_hosts: names that requests may ask for besides those of loopback, lower-case; `*.example.org` is any below.
        max_request: bytes that the body of a request may have.
        session_seconds: how long a browser stays logged in.
        namespace: of the deployment; cookies carry it, as several deployments may be served on one host.
        redactor: masks payloads for the role `view`.
        hooks: webhooks by name.
        metrics: whether `/metrics` is answered without a token.
    """

    tokens: tuple[Token, ...] = ()
    read_only: bool = False
    allowed_hosts: tuple[str, ...] = ()
    max_request: int = 16 * 1024 * 1024
    session_seconds: float = 12 * 3600.0
    namespace: str = "flowcraft"
    redactor: Redactor = field(default_factory=Redactor)
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    metrics: bool = True

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names that requests may ask for."""
        return (*LOOPBACK_NAMES, *self.allowed_hosts)


def options_of(settings: Settings, secrets: frozenset[str] = frozenset()) -> ApiOptions:
    """The options that a `flowcraft.yaml` sets.

    Args:
        secrets: texts that are masked wherever they stand.
    """
    api = settings.api
    return ApiOptions(
        tokens=tuple(Token(each.name, Role(each.role), each.token.get_secret_value()) for each in api.auth.tokens),
        read_only=api.read_only,
        allowed_hosts=(*api.allowed_hosts, *((api.host.lower(),) if api.host not in ANY_ADDRESS else ())),
        max_request=api.max_request,
        session_seconds=api.auth.session,
        namespace=settings.name,
        redactor=Redactor(secrets, names=settings.logging.redact),
        metrics=api.metrics,
        hooks={name: Hook.of(name, section) for name, section in settings.hooks.items()},
    )
