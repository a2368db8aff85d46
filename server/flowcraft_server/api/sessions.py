"""Sessions of browsers: a signed cookie that names a token, and the slowing down of failed logins."""

import hashlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from fastapi import Request
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.responses import Response

from flowcraft_sdk.protocol.clock import clock

from .problems import Problem

SEPARATOR = "~"
LONGEST_COOKIE = 1024
MOST_REVOKED = 10_000
"""Sessions that were ended and are remembered until they would have expired."""

FAILURES = 5
"""Failed logins of one address within `FAILURE_SECONDS`, after which it has to wait."""

ALL_FAILURES = 100
"""Failed logins of all addresses together within that time."""

FAILURE_SECONDS = 60.0
MOST_ADDRESSES = 10_000


class Sessions:
    """Makes, reads and ends sessions. The cookie is signed with the token it names: without that token it is worth nothing.

    Args:
        namespace: of the deployment; part of the cookie's name.
        seconds: how long a session lasts.
    """

    def __init__(self, namespace: str, seconds: float) -> None:
        self.cookie = f"flowcraft_{namespace}"
        self._namespace = namespace
        self._seconds = int(seconds)
        self._revoked: OrderedDict[str, None] = OrderedDict()

    def begin(self, request: Request, response: Response, name: str, secret: str) -> None:
        """Log a browser in.

        Args:
            name: of the token.
            secret: the token.
        """
        signed = self._serializer(secret).dumps(secrets.token_urlsafe(12))
        response.set_cookie(
            self.cookie,
            f"{name}{SEPARATOR}{signed}",
            max_age=self._seconds,
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def name_in(self, request: Request, tokens: Mapping[str, str]) -> str | None:
        """The name of the token that the session of a request was begun with; None without a session that counts.

        Args:
            tokens: all tokens, by their names.
        """
        found = self._read(request, tokens)
        return found[0] if found is not None and found[1] not in self._revoked else None

    def end(self, request: Request, response: Response, tokens: Mapping[str, str]) -> None:
        """Log a browser out."""
        found = self._read(request, tokens)
        if found is not None:
            self._revoked[found[1]] = None
            while len(self._revoked) > MOST_REVOKED:
                self._revoked.popitem(last=False)
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="strict")

    def _read(self, request: Request, tokens: Mapping[str, str]) -> tuple[str, str] | None:
        name, separator, signed = request.cookies.get(self.cookie, "")[:LONGEST_COOKIE].partition(SEPARATOR)
        secret = tokens.get(name)
        if not separator or secret is None:
            return None
        try:
            session = self._serializer(secret).loads(signed, max_age=self._seconds)
        except BadData:
            return None
        return name, str(session)

    def _serializer(self, secret: str) -> URLSafeTimedSerializer:
        salt = f"flowcraft session {self._namespace}"
        return URLSafeTimedSerializer(secret, salt=salt, signer_kwargs={"digest_method": hashlib.sha256})


class FailedLogins:
    """Slows down guessing: an address that failed several times has to wait, and so have all when many fail.

    Args:
        now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = clock) -> None:
        self._now = now
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=ALL_FAILURES)

    def check(self, address: str) -> None:
        """Let a login be tried.

        Raises:
            Problem: 429, there were too many that failed.
        """
        since = self._now() - FAILURE_SECONDS
        own = self._by_address.get(address, deque())
        for failures, most in ((own, FAILURES), (self._all, ALL_FAILURES)):
            while failures and failures[0] <= since:
                failures.popleft()
            if len(failures) >= most:
                seconds = max(1, round(failures[0] - since))
                raise Problem(
                    429, "too_many_logins", f"too many logins failed; try again in {seconds} s",
                    headers={"retry-after": str(seconds)},
                )  # fmt: skip

    def note(self, address: str) -> None:
        """Note a login that failed."""
        self._by_address.setdefault(address, deque(maxlen=FAILURES)).append(self._now())
        self._by_address.move_to_end(address)
        while len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        self._all.append(self._now())
