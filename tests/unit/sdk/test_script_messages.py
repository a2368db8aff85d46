"""Calls put together into messages: what is joined, in which order, and that nothing is sent twice."""

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall, load, messages

KEYS, OTHERS = Keys("t"), Keys("u")
SCRIPT = load("complete")


def outcome(run: str, about: str, keys: Keys = KEYS) -> ScriptCall:
    return ScriptCall(SCRIPT, (keys.clock,), (run, 1), (about, "plan"))


def test_outcomes_of_the_same_node_say_what_the_node_is_once() -> None:
    (message,) = messages([outcome("r1", "a"), outcome("r2", "b"), outcome("r3", "a")])
    nodes = (2, 2, "a", "plan", 2, "b", "plan")
    assert message.words == (1, KEYS.clock, *nodes, 1, 2, "r1", 1, 2, 2, "r2", 1, 1, 2, "r3", 1)
    assert (message.script, message.joined) == (SCRIPT, 3)


def test_only_what_follows_each_other_is_joined() -> None:
    """What a node has published must be there before its outcome, and a claim comes after what makes room for it."""
    claim = scripts.claim(KEYS, scripts.ClaimRequest("w", 1000, "default"))
    made = messages([outcome("r1", "a"), claim, claim, outcome("r2", "a"), outcome("r3", "a")])
    assert [(message.script.name, message.joined) for message in made] == [
        ("complete", 1), ("claim", None), ("claim", None), ("complete", 2)
    ]  # fmt: skip
    assert made[1].words == (1, KEYS.clock, *claim.args)


def test_outcomes_of_different_stores_are_not_joined() -> None:
    assert [m.joined for m in messages([outcome("r1", "a"), outcome("r2", "a", OTHERS)])] == [1, 1]


def test_large_outcomes_are_not_joined() -> None:
    """Redis serves nobody else while it works on a call."""
    large = ScriptCall(SCRIPT, (KEYS.clock,), ("r", 1, "-", bytes(600_000)), ("a", "plan"))
    small = outcome("r1", "a")
    assert [m.joined for m in messages([small, large, large, small, large])] == [2, 2, 1]


def test_nothing_is_nothing() -> None:
    assert messages([]) == []


def test_a_script_has_its_includes_where_they_are_named() -> None:
    source = SCRIPT.source
    assert (
        source.index("local function script()")
        < source.index("local B, WAKE =")
        < source.index("local function complete_fast()")
        < source.index("local function load_run(")
    )
    assert source.index("if not left[1] then return replies end") < source.index("local function load_run(")
