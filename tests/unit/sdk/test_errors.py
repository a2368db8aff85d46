"""Errors: what they are, that they fit on one line, and that they travel between processes."""

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from flowcraft_sdk import Client, errors
from flowcraft_sdk.records import CancelInfo, NodeFailure, RunSnapshot, RunStatus

SNAPSHOT = RunSnapshot(
    run_id="r1",
    blueprint_id="b",
    blueprint_version="h",
    status=RunStatus.FAILED,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    deadline=datetime(2026, 1, 2, tzinfo=UTC),
    cancel=CancelInfo(reason="no longer\nwanted", requested_at=datetime(2026, 1, 1, tzinfo=UTC), forced=True),
    failures=(
        NodeFailure(node_id="n", attempt=2, type="app.Boom", message="line 1\nline 2", traceback="Traceback\n  boom"),
        NodeFailure(node_id="m", message="also"),
    ),
)
ALL: list[errors.FlowcraftError] = [
    errors.FlowcraftError("some\nthing"),
    errors.ConfigurationError("bad"),
    errors.BackendUnavailableError("gone", operation="start", maybe_applied=True),
    errors.ProtocolMismatchError("1", "2"),
    errors.SerializationError("has no JSON form", "ctx.a[0]"),
    errors.PayloadTooLargeError("ctx.a", 11, 10),
    errors.BlueprintNotFoundError("moderaton", None, ["moderation"]),
    errors.InvalidInputError("does not fit", [{"loc": ("a",), "type": "missing", "msg": "is missing"}]),
    errors.RunNotFoundError("r1"),
    errors.RunConflictError("r1", "different_input"),
    errors.WaitTimeoutError("r1", "running", 1.5, None, 0),
    errors.RunFailedError(SNAPSHOT),
    errors.RunCancelledError(SNAPSHOT),
    errors.RunTimedOutError(SNAPSHOT),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: errors.FlowcraftError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
    assert repr(copy.__cause__) == repr(error.__cause__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_an_error_is_one_line_with_its_run_and_a_stable_code(error: errors.FlowcraftError) -> None:
    assert "\n" not in str(error)
    assert str(error)
    if hasattr(error, "run_id"):
        assert "r1" in str(error)
    assert error.code.replace("_", "").isalpha()


def test_codes_are_unique() -> None:
    def classes(of: type[errors.FlowcraftError]) -> list[type[errors.FlowcraftError]]:
        return [of, *[deeper for cls in of.__subclasses__() for deeper in classes(cls)]]

    # Those of the SDK: whether the server's are loaded depends on the tests before.
    found = [cls for cls in classes(errors.FlowcraftError) if cls.__module__.startswith("flowcraft_sdk.")]
    assert len({cls.code for cls in found}) == len(found)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.BackendUnavailableError, ConnectionError),
        (errors.SerializationError, TypeError),
        (errors.PayloadTooLargeError, errors.SerializationError),
        (errors.BlueprintNotFoundError, LookupError),
        (errors.InvalidInputError, ValueError),
        (errors.RunNotFoundError, LookupError),
        (errors.WaitTimeoutError, TimeoutError),
        (errors.RunFailedError, errors.RunUnsuccessfulError),
        (errors.RunCancelledError, errors.RunUnsuccessfulError),
        (errors.RunTimedOutError, errors.RunUnsuccessfulError),
    ],
)
def test_an_error_is_what_callers_expect_it_to_be(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


def test_only_a_wait_that_ran_out_is_a_timeout_error() -> None:
    assert not issubclass(errors.RunTimedOutError, TimeoutError)
    assert not issubclass(errors.RunUnsuccessfulError, TimeoutError)


def test_a_handle_stays_behind_when_an_error_is_pickled() -> None:
    with Client("redis://localhost:1") as client:
        waited = errors.WaitTimeoutError("r1", "running", 1.0, client.get_handle("r1"))
        conflict = errors.RunConflictError("r1", "exists", client.get_handle("r1"))
        assert pickle.loads(pickle.dumps(waited)).handle is None
        assert pickle.loads(pickle.dumps(conflict)).existing is None
        assert waited.handle == conflict.existing


def test_a_failed_run_shows_the_handlers_traceback() -> None:
    error: Any = errors.RunFailedError(SNAPSHOT)
    assert str(error) == "run r1 failed: node 'n': Boom: line 1 line 2"
    assert isinstance(error.__cause__, errors.RemoteError)
    assert "Traceback\n  boom" in str(error.__cause__)
    assert [failure.node_id for failure in error.failures] == ["n", "m"]


def test_a_failed_run_without_a_recorded_failure_says_so() -> None:
    error = errors.RunFailedError(SNAPSHOT.model_copy(update={"failures": ()}))
    assert str(error) == "run r1 failed: no failure is recorded"
    assert (error.failure.node_id, error.failures, error.__cause__) == ("", [], None)


def test_near_blueprints_are_named() -> None:
    error = errors.BlueprintNotFoundError("moderaton", None, ["moderation", "moderator"])
    assert str(error) == "no blueprint 'moderaton' is published; did you mean 'moderation' or 'moderator'?"
    assert "in version abc" in str(errors.BlueprintNotFoundError("b", "abc"))


@pytest.mark.parametrize(
    ("known", "published", "shown"),
    [
        (["b1"], ["a", "b1"], "no blueprint 'b' is published; did you mean 'b1'?"),
        ([], ["x", "y"], "no blueprint 'b' is published; published are 'x', 'y'"),
        ([], [f"n{i}" for i in range(10)], "'n6', 'n7' and 2 more"),
        ([], [], "no blueprint 'b' is published, nor any other: has a server of this name been started on this Redis?"),
        ([], None, "no blueprint 'b' is published"),
    ],
)
def test_a_missing_blueprint_says_what_there_is(known: list[str], published: list[str] | None, shown: str) -> None:
    assert str(errors.BlueprintNotFoundError("b", None, known, published)).endswith(shown)


def test_a_failure_has_its_type_in_its_summary() -> None:
    assert NodeFailure(node_id="n", type="builtins.KeyError", message="'price'").summary == "KeyError: 'price'"
    assert NodeFailure(node_id="n", type="shop.Declined").summary == "Declined"
    assert NodeFailure(node_id="n", message="no type").summary == "no type"
