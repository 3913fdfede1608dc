"""Prices as a policy states them, in integer micro-units of a currency once they are read."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec

from processors.errors import Invalid


class PerMillion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices of a million tokens, in units of the currency; written as numbers or strings ("0.15")."""

    input: float | str = 0
    output: float | str = 0
    cached: float | str | None = None
    """Cached input tokens; at the price of input where none is given."""


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A price list."""

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    per_million: PerMillion = PerMillion()


def check_prices(prices: Prices, path: str) -> None:
    """Whether every price is one.

    Raises:
        Invalid: it is not; the path names it.
    """
    for name in ("input", "output", "cached"):
        value = getattr(prices.per_million, name)
        if value is not None:
            to_micros(value, f"{path}.per_million.{name}")


def to_micros(value: float | str, path: str = "prices") -> int:
    """An amount in units of a currency as micro-units of it.

    Raises:
        Invalid: it is no decimal number, negative, or finer than a micro-unit.
    """
    try:
        micros = Decimal(str(value)) * 1_000_000
    except InvalidOperation:
        raise Invalid(path, f"{value!r} is not a decimal number") from None
    if not micros.is_finite() or micros < 0 or micros != int(micros):
        raise Invalid(path, f"{value!r} must be at least 0 and no finer than 0.000001")
    return int(micros)
