"""Tokens and money: estimates where the provider is silent, and cost in integer micro-units."""

from processors.events import Cost, Usage
from processors.policy import Limits
from processors.prices import Prices, to_micros


def estimate_tokens(limits: Limits, cyrillic: int, other: int) -> int:
    """Tokens of a text with so many Cyrillic and other characters, rounded up."""
    ratios = limits.chars_per_token
    exact = cyrillic / ratios.get("ru", 3.0) + other / ratios.get("en", 4.0)
    return int(exact) + (exact > int(exact))


def add(left: Usage, right: Usage) -> Usage:
    """Sum of two runs; it counts as the provider's only where both do."""
    both = left.source == right.source == "provider"
    return Usage(
        input=left.input + right.input,
        output=left.output + right.output,
        cached=left.cached + right.cached,
        reasoning=left.reasoning + right.reasoning,
        source="provider" if both else "estimated",
    )


def cost(usage: Usage, prices: Prices, version: str) -> Cost:
    """What `usage` costs. Cached input tokens are part of `input` and have their own price; reasoning is output."""
    per = prices.per_million
    cached_price = per.input if per.cached is None else per.cached
    cached = min(usage.cached, usage.input)
    total = (
        (usage.input - cached) * to_micros(per.input)
        + cached * to_micros(cached_price)
        + usage.output * to_micros(per.output)
    )
    return Cost(micros=(total + 500_000) // 1_000_000, currency=prices.currency, prices=version)
