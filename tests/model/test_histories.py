"""The scripts and an independent model of a run agree after each step of random histories."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.compiling import compiler
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing.environment import partitions_in_environment, shared_store
from tests.model.histories import History, blueprints

HISTORIES = int(os.environ.get("FLOWCRAFT_HISTORIES", "700"))


@pytest.fixture(scope="module")
def link() -> Iterator[StoreLink]:
    link = StoreLink(shared_store())
    link.load_scripts()
    yield link
    link.close()


@contextmanager
def new_history(link: StoreLink, blueprint: dict[str, Any], most: int | None) -> Iterator[History]:
    partitions = Partitions(f"history-{secrets.token_hex(4)}", partitions_in_environment())
    history = History(link, partitions.all[-1], Blueprint.from_plain(blueprint), steps=most)
    try:
        yield history
    finally:
        names = list(link.redis.scan_iter(match=history.keys.base.replace("[", "\\[") + "*", count=1000))
        link.redis.unlink(*names)


def compare(link: StoreLink, blueprint: dict[str, Any], steps: list[tuple[int, int]], most: int | None) -> None:
    with new_history(link, blueprint, most) as history:
        history.begin()
        for choice, bits in steps:
            history.step(choice, bits)
        history.finish()


random_histories = given(
    blueprint=blueprints(), steps=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2**16)), max_size=25)
)


@random_histories
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scripts_and_model_agree(link: StoreLink, blueprint: dict[str, Any], steps: list[tuple[int, int]]) -> None:
    compare(link, blueprint, steps, None)


@pytest.fixture(scope="module")
def wide_joins() -> Iterator[None]:
    """Joins of two edges are kept like wide ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "WIDEST_STRING", 1)
        yield


@random_histories
@settings(max_examples=HISTORIES // 2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_they_agree_when_joins_are_wide_and_calls_short(
    link: StoreLink, wide_joins: None, blueprint: dict[str, Any], steps: list[tuple[int, int]]
) -> None:
    """What one call does in a small graph takes many calls in a large one: the outcome is the same."""
    compare(link, blueprint, steps, 2)


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("inner_join", ["all", "any"])
@pytest.mark.parametrize("last_join", ["all", "any"])
def test_an_inner_loop_that_is_entered_from_outside_of_both_starts_over(
    link: StoreLink, most: int | None, inner_join: str, last_join: str
) -> None:
    """No edge of the new iteration decides about its header: it fires, or is skipped, by what is known of those from outside."""
    uses = {"start": "all", "outer": "all", "inner": inner_join, "last": last_join}
    edges = [("start", "outer", None), ("start", "inner", None), ("outer", "last", None), ("inner", "last", None)]
    edges += [("inner", "outer", "again"), ("last", "inner", "again")]
    blueprint = {
        "id": "history",
        "nodes": [{"id": name, "uses": "x", "config": {"joinStrategy": join}} for name, join in uses.items()],
        "edges": [{"source": a, "target": b, **({"action": action} if action else {})} for a, b, action in edges],
    }
    with new_history(link, blueprint, most) as history:
        history.begin()
        for node, decisions in (("start", 0b10), ("inner", 0b10)):
            history.claim(0)
            assert [claim.instance_id for claim in history.held] == [node]
            history.complete(decisions << 3)
            history.check()
        assert history.model.state["inner"] == ("ready" if inner_join == "all" else "skipped")
        history.finish()
