"""A request whose shared budgets are used up is not ordered: the guard would stop it, and its prompt would be paid."""

import math
from collections.abc import Mapping

from processors.admission.examine import Examined
from processors.events import Rejection
from processors.guard.messages import message


def over_budget(examined: Examined, totals: Mapping[str, int] | None) -> Rejection | None:
    """Why a request cannot be ordered now, if so. `totals`: what is used by account; None where nobody knows."""
    for account in examined.accounts:
        budget = account.budget
        if totals is None and budget.unavailable == "closed":
            said = message("budget_unavailable", f"budgets.{budget.id}", examined.language)
            return Rejection(503, "budget_unavailable", said)
        if totals is not None and totals.get(account.key, 0) >= budget.limit:
            said = message("budget_exhausted", f"budgets.{budget.id}", examined.language)
            left_s = account.until_ms / 1000 - examined.submitted.timestamp()
            return Rejection(429, "budget_exhausted", said, retry_after_s=max(1, math.ceil(left_s)))
    return None
