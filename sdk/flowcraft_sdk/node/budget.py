"""What a model call raises whose budget is used up."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk.node.context import NonRetryableError
from flowcraft_sdk.records import Budget, Usage
from flowcraft_sdk.records.counts import counted
from flowcraft_sdk.records.usage import dollars


class BudgetExceededError(NonRetryableError):
    """A budget is used up, so no further model call is made for it. The node fails; a further attempt cannot help.

    Args:
        of: What has the budget, such as `run 7f3` or `tag 'acme' on 2026-12-01`.
        budget: The budget.
        used: What was used.

    Attributes:
        budget: The budget.
        used: What was used.
    """

    def __init__(self, of: str, budget: Budget, used: Usage) -> None:
        sums = []
        if budget.usd is not None and used.usd >= budget.usd:
            sums.append(f"{dollars(used.usd)} of {dollars(budget.usd)}")
        if budget.tokens is not None and used.tokens >= budget.tokens:
            sums.append(f"{used.tokens:,} of {counted(budget.tokens, 'token')}")
        details: Mapping[str, Any] = {"of": of, "budget": budget.model_dump(), "used": used.model_dump()}
        calls = counted(used.calls, "model call")
        super().__init__(f"the budget of {of} is used up: {' and '.join(sums)} by {calls}", details=details)
        self.budget = budget
        self.used = used
