"""Answers that come by the URL of a `webhook` node."""

from typing import Any, Literal

from flowcraft_sdk._operations.deployment import Deployment, keys_of, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk._operations.signals import check_answer
from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.protocol.webhook_keys import SECRET_FIELD, signal_id_of, webhook_key

Answered = Literal["taken", "unknown", "early", "gone"]
UNDECIDED = "PRLT"
"""Letters of the states of a node that may still come to wait in this round."""


def answer_webhook(deployment: Deployment, key: str, payload: Any, action: str | None) -> Operation[Answered]:
    """Give a `webhook` node its answer, once for each key.

    The value says what came of it: `taken`; `unknown`, the key is none of this deployment's; `early`, the node is in a loop and
    does not wait yet; `gone`, it was answered, or waits no longer.

    Raises:
        InvalidInputError: the node cannot take the answer; it may be sent again, mended.
    """
    if action is not None:
        check_text(action, "an action", LONGEST_NAME)
    secret = yield command("HGET", deployment.keys.settings, SECRET_FIELD)
    named = None if secret is None else webhook_key(key, text(secret))
    if named is None:
        return "unknown"
    encoded = wire.dumps(payload, path="payload", limit=deployment.max_value)
    keys = yield from keys_of(deployment, named.run_id)
    run_key, node_field = keys.run(named.run_id), f"n:{named.instance_id}"
    created, state = (yield Batch((command("HMGET", run_key, "cr", node_field),)))[0]
    if created is None or text(created) != str(named.created):
        return "gone"
    early, signal_id = not named.iterations, signal_id_of(key)
    reply = yield scripts.find_wait(
        keys, run_id=named.run_id, instance_id=named.instance_id, signal_id=signal_id, early=early
    )
    code = text(reply[0])
    if code == "not-waiting" and named.iterations and (state is None or text(state)[:1] in UNDECIDED):
        return "early"
    if code != "found":
        return "gone"
    details = wire.loads(reply[5]) if len(reply) > 5 and reply[5] is not None else None
    if isinstance(details, dict) and details.get("key") != key:
        return "gone"  # it waits in another round
    yield from check_answer(deployment, named.run_id, reply, wire.loads(encoded), action)
    reply = yield scripts.signal(
        keys,
        run_id=named.run_id,
        instance_id=named.instance_id,
        signal_id=signal_id,
        action=action or "",
        payload=encoded,
        early=early,
    )
    return "taken" if text(reply[0]) in ("ok", "kept") else "gone"
