"""Whether limits and budgets of cost can be kept: everything they add up has a price, and one currency."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from processors.errors import Invalid
from processors.prices import Prices, to_micros

if TYPE_CHECKING:
    from processors.policy import Effective, Policy


def check_costs(policy: "Policy", views: Sequence["Effective"]) -> None:
    """Micro-units of two currencies would be added up as one, and what costs nothing reaches no limit.

    Raises:
        Invalid: with the path of the limit or budget that cannot be kept.
    """
    reached: dict[str, bool] = {}
    for view in views:
        priced = {name: prices for name in _providers(view) if _costs(prices := view.prices[name])}
        for path in _entries(policy, view):
            currencies = {prices.currency for prices in priced.values()}
            if len(currencies) > 1:
                told = ", ".join(f"{name} in {prices.currency}" for name, prices in sorted(priced.items()))
                raise Invalid(path, f"adds up different currencies for tenant {view.tenant} ({told}); use one")
            reached[path] = reached.get(path, False) or bool(priced)
    for path, is_reached in reached.items():
        if not is_reached:
            raise Invalid(path, "is never reached, for all prices are 0; state them under `prices`, or leave it out")


def _providers(view: "Effective") -> set[str]:
    """Those that the tenant's requests may be sent to."""
    return {step.provider for steps in view.routes.values() for step in steps}


def _costs(prices: Prices) -> bool:
    per = prices.per_million
    return any(to_micros(price) for price in (per.input, per.output, per.cached or 0))


def _entries(policy: "Policy", view: "Effective") -> Iterator[str]:
    """The paths of what limits the tenant's cost; a tenant's own stands in its section."""
    tenant = policy.tenants[view.tenant]
    if view.limits.max_cost is not None:
        yield f"tenants.{view.tenant}.limits.max_cost" if "max_cost" in (tenant.limits or {}) else "limits.max_cost"
    where = "budgets" if tenant.budgets is None else f"tenants.{view.tenant}.budgets"
    for index, budget in enumerate(view.budgets):
        if budget.cost is not None:
            yield f"{where}[{index}].cost"
