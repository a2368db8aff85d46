"""A webhook: whether a request is signed with its secret, and which run the request is to start. No I/O."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk.protocol.expressions import Expression, compile_expression
from flowcraft_server.config.hooks import HookSection

from .problems import Problem, encoded

STANDARD_SECRET = "whsec_"  # noqa: S105 - what secrets of Standard Webhooks begin with, whose rest is base64
LONGEST_ID = 512
HASH_DIGITS = 32


@dataclass(frozen=True)
class Hook:
    """A webhook of the configuration.

    Attributes:
        name: its name.
        blueprint: id of the blueprint.
        secret: what requests are signed with.
        scheme: how they are signed.
        tolerance: seconds that the time of a request may be off.
        dedupe: what is the same for requests that are to start one run; None for the id that the scheme gives.
        input: makes the start context.
    """

    name: str
    blueprint: str
    secret: bytes
    scheme: str
    tolerance: float
    dedupe: Expression | None
    input: Expression

    @classmethod
    def of(cls, name: str, section: HookSection) -> "Hook":
        """The webhook that a section describes."""
        secret = section.secret.get_secret_value()
        key = secret.encode()
        if section.scheme == "standard" and secret.startswith(STANDARD_SECRET):
            try:
                key = base64.b64decode(secret.removeprefix(STANDARD_SECRET), validate=True)
            except binascii.Error:
                pass  # one that only looks like it is taken as it stands
        return cls(
            name, section.blueprint, key, section.scheme, section.tolerance,
            None if section.dedupe is None else compile_expression(section.dedupe), compile_expression(section.input),
        )  # fmt: skip

    def check(self, headers: Mapping[str, str], body: bytes, now: float) -> str | None:
        """Check the signature of a request; returns the id that its sender gave it.

        Args:
            now: seconds since 1970.

        Raises:
            Problem: 401, it is not signed with the secret, or too long ago.
        """
        if self.scheme == "github":
            signed = [headers.get("x-hub-signature-256", "").removeprefix("sha256=")]
            expected = hmac.new(self.secret, body, hashlib.sha256).hexdigest()
            identifier = headers.get("x-github-delivery")
        else:
            identifier, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
            parts = (part.partition(",") for part in headers.get("webhook-signature", "").split(" ")[:10])
            signed = [signature for version, _, signature in parts if version == "v1"]
            digest = hmac.new(self.secret, f"{identifier}.{sent}.".encode() + body, hashlib.sha256).digest()
            expected = base64.b64encode(digest).decode()
            if not sent.isdecimal() or len(sent) > 12 or abs(now - int(sent)) > self.tolerance:
                raise Problem(401, "stale_request", "webhook-timestamp is missing, or not of now")
        matches = [hmac.compare_digest(each.encode(), expected.encode()) for each in signed]
        if not any(matches):
            raise Problem(401, "bad_signature", "the request is not signed with the secret of this webhook")
        return identifier or None

    def run_id(self, scope: Mapping[str, Any], identifier: str | None) -> str | None:
        """The id of the run that a request is to start; None for a new one each time.

        Raises:
            Problem: 422, the request has nothing where `dedupe` looks.
        """
        key = identifier if self.dedupe is None else self.dedupe.evaluate(scope)
        if key is None and self.dedupe is None:
            return None
        if key is None:
            raise Problem(422, "invalid_request", f"the request has no {self.dedupe.source if self.dedupe else 'id'}")
        digest = hashlib.sha256(encoded(key)).hexdigest()[:HASH_DIGITS]
        return f"hook-{self.name}-{digest}"
