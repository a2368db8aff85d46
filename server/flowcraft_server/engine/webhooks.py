"""Keys of `webhook` nodes, as the nodes themselves and handlers of the same run have them."""

from flowcraft_sdk.protocol.bounds import LONGEST_PATH, check_text
from flowcraft_sdk.protocol.webhook_keys import WebhookKey, shared_iterations

from .attempt import Attempt
from .engine import Engine

WEBHOOK = "webhook"


def own_key(attempt: Attempt) -> WebhookKey:
    """The key of the node of an attempt: the same for all attempts in a round."""
    claim = attempt.claim
    return WebhookKey(claim.run_id, claim.run_created, claim.instance_id, claim.iterations)


def key_of(engine: Engine, attempt: Attempt, node_id: str) -> str:
    """The key of a `webhook` node of the run of an attempt, which need not wait yet.

    Raises:
        ValueError: there is no such node, or the round that is meant is not known here.
    """
    node = attempt.plan.nodes.get(check_text(node_id, "node_id", LONGEST_PATH))
    if node is None or node.node.uses != WEBHOOK:
        raise ValueError(f"the run has no node '{node_id}' that uses '{WEBHOOK}'")
    iterations = shared_iterations(attempt.node.loops, attempt.claim.iterations, node.loops)
    if iterations is None:
        raise ValueError(
            f"'{node_id}' is in a loop that '{attempt.claim.node_id}' is not in: its key is another one in each round"
        )
    secret = engine.webhook_secret()
    if secret is None:
        raise ValueError("the deployment has no secret for webhooks: start its server again")
    return WebhookKey(attempt.claim.run_id, attempt.claim.run_created, node_id, iterations).signed(secret)
