"""The scripts and an independent model of a run agree after each step of random histories."""

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.blueprints.compiling import compiler
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing.environment import shared_store
from tests.model.histories import History, blueprints

HISTORIES = int(os.environ.get("FLOWCRAFT_HISTORIES", "2000"))


@pytest.fixture(scope="module")
def link() -> Iterator[StoreLink]:
    link = StoreLink(shared_store())
    link.load_scripts()
    yield link
    link.close()


def compare(link: StoreLink, blueprint: dict[str, Any], steps: list[tuple[int, int]], most: int | None) -> None:
    history = History(link, Keys(f"history-{secrets.token_hex(4)}"), Blueprint.from_plain(blueprint), steps=most)
    try:
        history.begin()
        for choice, bits in steps:
            history.step(choice, bits)
        history.finish()
    finally:
        names = list(link.redis.scan_iter(match=history.keys.base.replace("[", "\\[") + "*", count=1000))
        link.redis.unlink(*names)


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
