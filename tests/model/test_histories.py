"""The scripts and an independent model of a run agree after each step of random histories."""

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft_sdk.protocol.keys import Keys
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


@given(blueprint=blueprints(), steps=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2**16)), max_size=25))
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scripts_and_model_agree(link: StoreLink, blueprint: dict[str, Any], steps: list[tuple[int, int]]) -> None:
    history = History(link, Keys(f"history-{secrets.token_hex(4)}"), Blueprint.from_plain(blueprint))
    try:
        history.begin()
        for choice, bits in steps:
            history.step(choice, bits)
        history.finish()
    finally:
        names = list(link.redis.scan_iter(match=history.keys.base.replace("[", "\\[") + "*", count=1000))
        link.redis.unlink(*names)
