"""What `start` is given: run ids, contexts, tags, spans and moments."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from flowcraft_sdk.errors import ConfigurationError, InvalidInputError, PayloadTooLargeError, SerializationError
from flowcraft_sdk.protocol.bounds import check_moment, check_span
from flowcraft_sdk.protocol.context_input import (
    as_context,
    check_contract,
    check_known_run_id,
    check_run_id,
    check_tags,
    digest,
    encoded,
    new_run_id,
)


def test_made_up_run_ids_are_valid_unique_and_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(26 <= len(run_id) <= 36 and check_run_id(run_id) for run_id in ids)
    stamps = [run_id[:12] for run_id in ids]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("run_id", ["", "a b", "a/b", "ä", "x" * 201, "a\n", "{a}", 7, None])
def test_other_run_ids_are_refused(run_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="a run id is 1 to 200 of"):
        check_run_id(run_id)
    assert check_run_id("post-7:2026.01_x") == "post-7:2026.01_x"


def test_tags_are_sorted_and_each_once() -> None:
    assert check_tags(iter(["b", "a", "b"])) == ["a", "b"]
    for bad in ([""], ["x" * 201], [1], ["a\nb"]):
        with pytest.raises(ConfigurationError, match="a tag is a text"):
            check_tags(bad)  # type: ignore[arg-type]


def test_spans() -> None:
    assert (check_span(None, "t"), check_span(1.5, "t"), check_span(timedelta(minutes=1), "t"), check_span(0, "t")) == (
        None,
        1.5,
        60.0,
        0.0,
    )
    for bad in (-1, -0.001, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="timeout is a span of time"):
            check_span(bad, "timeout")


def test_moments_need_a_time_zone() -> None:
    assert check_moment(None, "start_at") is None
    assert check_moment(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "start_at") == 1000
    with pytest.raises(ConfigurationError, match="start_at: a datetime without a time zone"):
        check_moment(datetime(2026, 1, 1), "start_at")


@dataclasses.dataclass
class Order:
    id: int
    lines: list[int]


class OrderModel(BaseModel):
    id: int


class Kind(StrEnum):
    A = "a"


def test_contexts() -> None:
    assert as_context(None) == {}
    assert as_context(Order(1, [2])) == {"id": 1, "lines": [2]}
    assert as_context(OrderModel(id=1)) == {"id": 1}
    for bad in ([1], "text", 7, Order, RootModel[int](1)):
        with pytest.raises(SerializationError, match="ctx: a context is a mapping"):
            as_context(bad)
    with pytest.raises(SerializationError, match="ctx: the key 1 is no text"):
        as_context({1: 2})


def test_a_stored_context_is_one_value_for_each_key() -> None:
    assert encoded({"a": [1], "b": None}, 100) == {"a": b"[1]", "b": b"null"}
    with pytest.raises(PayloadTooLargeError, match=re.escape("ctx.a: ")):
        encoded({"a": "x" * 100}, 50)
    with pytest.raises(SerializationError, match=re.escape("ctx.a.b[0]: ")):
        encoded({"a": {"b": [object()]}}, 50)
    with pytest.raises(SerializationError, match="ctx: text with a lone surrogate"):
        encoded({"\udc80": 1}, 50)


def test_equal_contexts_have_one_digest_whatever_the_order_of_their_keys() -> None:
    def of(values: dict[str, Any]) -> str:
        return digest(encoded(values, 1000))

    assert of({"a": {"x": 1, "y": [1e-7, 1e16]}, "b": 2}) == of({"b": 2, "a": {"y": [1e-7, 1e16], "x": 1}})
    assert digest({"a": b"1e-7"}) == digest({"a": b"1e-07"})
    assert len({of(v) for v in ({}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": Decimal(1)})}) == 7
    assert len(of({})) == 16


CONTRACT: dict[str, Any] = {
    "post": "string",
    "limit": {"type": "number", "default": 3},
    "kind": {"type": "string", "enum": ["a", "b"], "required": False},
    "order": {"type": "object", "required": False},
    "tags": {"type": "array", "required": False},
    "flag": {"type": "boolean", "required": False},
    "count": {"type": "integer", "required": False},
    "free": {"type": "any", "required": False},
}


@pytest.mark.parametrize(
    "more",
    [
        {}, {"limit": 1.5}, {"limit": Decimal(1)}, {"kind": Kind.A}, {"order": {}}, {"order": Order(1, [])},
        {"order": OrderModel(id=1)}, {"tags": (1,)}, {"tags": {1}}, {"flag": True}, {"count": 1}, {"free": None},
        {"free": datetime(2026, 1, 1, tzinfo=UTC)}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_context_that_fits(more: dict[str, Any]) -> None:
    assert check_contract("b", CONTRACT, {"post": "p", **more}) == {"post": "p", "limit": 3, **more}


@pytest.mark.parametrize(
    ("values", "misfit"),
    [
        ({}, "post: is missing, expected string"),
        ({"post": 1}, "post: expected string, got 1"),
        ({"post": None}, "post: expected string, got null"),
        ({"post": "p", "limit": True}, "limit: expected number, got true"),
        ({"post": "p", "count": 1.0}, "count: expected integer, got 1.0"),
        ({"post": "p", "kind": "c"}, 'kind: expected "a" or "b", got "c"'),
        ({"post": "p", "order": [1]}, "order: expected object, got [1]"),
        ({"post": "p", "tags": "text"}, 'tags: expected array, got "text"'),
        ({"post": "p", "flag": 1}, "flag: expected boolean, got 1"),
        (
            {"post": "p", "limt": 4},
            "limt: is no input of the blueprint; did you mean 'limit'? Else declare it in `context:`",
        ),
        (
            {"post": "p", "lmiit": 4},
            "lmiit: is no input of the blueprint; did you mean 'limit'? Else declare it in `context:`",
        ),
        (
            {"post": "p", "limut": 4},
            "limut: is no input of the blueprint; did you mean 'limit'? Else declare it in `context:`",
        ),
        (
            {"post": "p", "fgal": 4},
            "fgal: is no input of the blueprint; did you mean 'flag'? Else declare it in `context:`",
        ),
        (
            {"post": "p", "LIMIT": 4},
            "LIMIT: is no input of the blueprint; did you mean 'limit'? Else declare it in `context:`",
        ),
    ],
)
def test_a_context_that_does_not_fit(values: dict[str, Any], misfit: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_contract("b", CONTRACT, values)
    assert str(caught.value) == f"the context does not fit blueprint 'b': {misfit}"
    name = misfit.partition(":")[0]
    assert caught.value.errors[0]["loc"] == (name,)


@pytest.mark.parametrize(
    "more",
    [{"limit": 4, "limits": 5}, {"posts": 1}, {"li": 4}, {"order_id": 4}, {"limi1": 4}, {"kinx": 1}, {"x" * 1_000: 1}],
)
def test_undeclared_keys_that_are_no_misspelt_inputs(more: dict[str, Any]) -> None:
    assert check_contract("b", CONTRACT, {"post": "p", **more}) == {"post": "p", "limit": 3, **more}


def test_a_key_that_the_blueprint_declares_is_meant_as_it_stands() -> None:
    given = {"post": "p", "limt": 4}
    assert check_contract("b", CONTRACT, dict(given), {"limt": {"type": "any"}}) == {"limit": 3, **given}


def test_a_misspelt_input_is_reported_beside_the_missing_one() -> None:
    with pytest.raises(InvalidInputError, match=r"post: is missing.*pots: is no input.*did you mean 'post'"):
        check_contract("b", CONTRACT, {"pots": "p"})


@pytest.mark.parametrize("run_id", ["a b", "a|b", "", "~1", "a~", "a~1|b", "a\n", "é", "a" * 201])
def test_ids_that_no_run_has(run_id: str) -> None:
    with pytest.raises(ConfigurationError, match="run id"):
        check_known_run_id(run_id)


def test_ids_of_runs_and_child_runs() -> None:
    for run_id in ("a", "A-Z.0_9:x", "order-7~1", "order-7~12~3"):
        assert check_known_run_id(run_id) == run_id


def test_all_misfits_are_reported_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_contract("b", CONTRACT, {"limit": "3"})
    assert [error["loc"][0] for error in caught.value.errors] == ["post", "limit"]
