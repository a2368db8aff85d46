"""Typed wrappers of the scripts of the cache of model replies."""

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, call_of


def find_reply(keys: Keys, *, digest: str, age_ms: int) -> ScriptCall:
    """Look for the reply to a request.

    Args:
        digest: of the request.
        age_ms: how old the reply may be.
    """
    return call_of("find_reply", keys, digest, age_ms)


def keep_reply(keys: Keys, *, digest: str, reply: str, age_ms: int, most_bytes: int) -> ScriptCall:
    """Keep the reply to a request.

    Args:
        digest: of the request.
        reply: the reply; empty to take out the one that is kept.
        age_ms: after which it goes by itself.
        most_bytes: of all replies in this partition.
    """
    return call_of("keep_reply", keys, digest, reply, age_ms, most_bytes)
