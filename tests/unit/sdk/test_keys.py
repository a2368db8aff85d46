"""No run id spells a key or a channel of another run, nor one that all runs share."""

import string
from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st

from flowcraft_sdk.protocol.context_input import RUN_ID
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records import STATES

KEYS = Keys("n")
ALLOWED = string.ascii_letters + string.digits + "._:-"
OWNERS = ("a", "events", "end", "a|b", "x:batch:y", "r|a", "1", "~1", "a[7]", "a#2", "a/b", "run:X", "{n.0}:")

NAMES = (
    "run",
    "events",
    "batch",
    "end",
    "inbox",
    "plan",
    "ready",
    "idx:st",
    "completed",
    "control",
    "timers",
    "leases",
    "X",
    "1",
)
PIECES = st.one_of(st.sampled_from(NAMES), st.text(ALLOWED, max_size=5))
LOOK_ALIKES = st.lists(PIECES, min_size=1, max_size=6).flatmap(
    lambda parts: st.sampled_from(":.-").map(lambda between: between.join(parts)[:200])
)
USERS = st.one_of(LOOK_ALIKES, st.text(ALLOWED, min_size=1, max_size=200)).filter(
    lambda text: bool(RUN_ID.fullmatch(text))
)
CHILDREN = st.lists(st.integers(1, 10**6), max_size=4).map(lambda numbers: "".join(f"~{number}" for number in numbers))
RUN_IDS = st.builds(lambda user, below: user + below, USERS, CHILDREN)
PAIRS = st.one_of(
    st.tuples(RUN_IDS, RUN_IDS),
    st.builds(
        lambda run_id, more: (run_id, run_id + more),
        RUN_IDS,
        st.sampled_from([":events", ":end", ":batch:a", ".1", "~1", "-", ":"]),
    ),
    st.builds(lambda run_id, before: (run_id, f"{before}:{run_id}"), RUN_IDS, st.sampled_from(NAMES)),
)


def test_every_allowed_character_is_tried() -> None:
    assert {chr(code) for code in range(0x110000) if RUN_ID.fullmatch(chr(code))} == set(ALLOWED)


def keys_of(run_id: str, owners: Iterable[str]) -> list[str]:
    return [KEYS.run(run_id), KEYS.events(run_id), *(KEYS.batch(run_id, owner) for owner in owners)]


def channels_of(run_id: str) -> list[str]:
    return [KEYS.channel(run_id), KEYS.end_channel(run_id)]


def shared(name: str) -> set[str]:
    """Keys and channels that are no run's, however the blueprint, queue, tag or worker is called."""
    fixed = {
        KEYS.clock, KEYS.gone, KEYS.plans, KEYS.blueprints, KEYS.control, KEYS.leases, KEYS.timers, KEYS.dead, KEYS.workers,
        KEYS.settings, KEYS.stats, KEYS.synced, KEYS.protocol, KEYS.base + "retired",
    }  # fmt: skip
    named = {
        KEYS.plan(name), KEYS.ready(name), KEYS.wake(name), KEYS.worker(name), KEYS.index_blueprint(name), KEYS.index_tag(name),
        KEYS.ended(name), KEYS.inbox_prefix + name,
    }  # fmt: skip
    return fixed | named | {KEYS.index_status(status) for status in STATES}


@given(PAIRS, st.lists(st.one_of(st.sampled_from(OWNERS), st.text(max_size=20)), max_size=4), st.text(max_size=30))
@example(("X", "X:events"), [], "")
@example(("X", "X:end"), [], "")
@example(("X", "X:batch:N"), ["N"], "")
@example(("a", "a|b"), ["b|c", "c"], "")
def test_two_runs_share_no_key_and_no_channel(pair: tuple[str, str], owners: list[str], name: str) -> None:
    one, other = pair
    owners = list(dict.fromkeys([*owners, *OWNERS]))
    for run_id in pair:
        mine = [*keys_of(run_id, owners)]
        assert len(set(mine)) == len(mine), "the keys of one run differ from each other"
        assert not set(mine) & shared(name)
        assert len(set(channels_of(run_id))) == 2
        assert not set(channels_of(run_id)) & shared(name)
    if one != other and "|" not in one + other:
        assert not set(keys_of(one, owners)) & set(keys_of(other, owners))
        assert not set(channels_of(one)) & set(channels_of(other))


@given(st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True), st.text(max_size=20))
@example(["a", "a:b"], "b")
def test_namespaces_share_nothing(namespaces: list[str], run_id: str) -> None:
    one, other = (Keys(namespace) for namespace in namespaces)
    assert one.run(run_id) != other.run(run_id)
