"""Keys of the URLs of `webhook` nodes. Pure.

A key names a node of a run, in a round of the loops around it, and is signed with the deployment's secret: it cannot be guessed,
it is the same however often the node is run, and nothing has to be stored for it.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft_sdk.protocol.bounds import LONGEST_PATH

SECRET_FIELD = "webhooks"  # noqa: S105 - the name of a field
"""Of the settings of the first partition: the secret."""

SIGNATURE_BYTES = 18
LONGEST_KEY = 4 * LONGEST_PATH + 200


@dataclass(frozen=True, slots=True)
class WebhookKey:
    """What a key names.

    Attributes:
        run_id: id of the run.
        created: when the run was created, in ms: another run may have its id later.
        instance_id: the node.
        iterations: round of each loop around it, outermost first.
    """

    run_id: str
    created: int
    instance_id: str
    iterations: tuple[int, ...] = ()

    def signed(self, secret: str) -> str:
        """The key as a text of letters, digits, `_`, `-` and `.`."""
        content = json.dumps(
            [self.run_id, self.created, self.instance_id, *self.iterations], ensure_ascii=False, separators=(",", ":")
        ).encode()
        return f"{_text(content)}.{_text(_signature(secret, content))}"


def webhook_key(text: str, secret: str) -> WebhookKey | None:
    """What a key names, None if it is not signed with the secret."""
    content, dot, signature = text.partition(".")
    if not dot or len(text) > LONGEST_KEY:
        return None
    try:
        plain, given = _bytes(content), _bytes(signature)
        if not hmac.compare_digest(given, _signature(secret, plain)):
            return None
        run_id, created, instance_id, *iterations = json.loads(plain)
    except (ValueError, binascii.Error):
        return None
    found = WebhookKey(run_id, created, instance_id, tuple(iterations))
    return found if found.signed(secret) == text else None  # base64 has several texts for the same bytes


def signal_id_of(text: str) -> str:
    """The id of the signal that a request with this key sends: the same each time, so the second one changes nothing."""
    return f"webhook:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _signature(secret: str, content: bytes) -> bytes:
    return hmac.new(secret.encode(), content, hashlib.sha256).digest()[:SIGNATURE_BYTES]


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def shared_iterations(around: Sequence[str], iterations: Sequence[int], loops: Sequence[str]) -> tuple[int, ...] | None:
    """The round in which a node will be, as one sees it that is in other loops; None if that is not known there.

    Args:
        around: headers of the loops around the one that looks, outermost first.
        iterations: their rounds.
        loops: headers of the loops around the node.
    """
    if list(around[: len(loops)]) != list(loops):
        return None
    return tuple(iterations[: len(loops)])
