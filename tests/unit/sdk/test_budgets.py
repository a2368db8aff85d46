"""A budget that bounds nothing is refused: a variable that is empty would lift a bound in silence."""

from typing import Any

import pytest

from flowcraft_sdk import Budget
from flowcraft_sdk.protocol.usage_sums import budget_of


@pytest.mark.parametrize(
    "value",
    [
        {}, {"usd": None}, {"tokens": None}, {"usd": None, "tokens": None}, Budget(), 5, {"eur": 1},
        *({"usd": usd} for usd in (0, -1, float("nan"), float("inf"), True, "1", 1e7)),
        *({"tokens": tokens} for tokens in (0, -5, float("nan"), True, 1.5, "0k", "1e9k", 10**400)),
    ],
)  # fmt: skip
def test_what_bounds_nothing_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"budget has|usd is|tokens are"):
        budget_of(value)


def test_one_of_the_two_is_enough() -> None:
    assert budget_of(None) is None
    assert budget_of({"usd": 0.5, "tokens": None}) == budget_of(Budget(usd=0.5)) == Budget(usd=0.5)
    assert budget_of({"usd": None, "tokens": "2k"}) == Budget(tokens=2_000)
