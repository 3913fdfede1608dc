"""Values that several events carry, as the columns they become."""

from datetime import UTC, datetime, timedelta

from processors.events import Cost, EdgeRef, Target, ToolCall, Usage
from processors.sink.table import Columns, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime | None) -> int | None:
    """Microseconds of Unix time; a time without a zone counts as UTC."""
    if time is None:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def tools(found: list[ToolCall | None]) -> Columns:
    """Index (-1: none), id and name of many, mostly none at all."""
    if not any(found):
        return [[-1] * len(found), [""] * len(found), [""] * len(found)]
    return [
        [-1 if tool is None else tool.index for tool in found],
        ["" if tool is None else tool.id or "" for tool in found],
        ["" if tool is None else tool.name or "" for tool in found],
    ]


def target_columns(target: Target | None) -> Row:
    """Provider and the model's name there."""
    return ("", "") if target is None else (target.provider, target.model)


def edge_columns(edge: EdgeRef | None) -> Row:
    """Instance and incarnation."""
    return ("", "") if edge is None else (edge.instance, edge.incarnation)


def usage_columns(usage: Usage | None) -> Row:
    """Four counts and their source, which is empty where nothing is known."""
    if usage is None:
        return (0, 0, 0, 0, "")
    return (usage.input, usage.output, usage.cached, usage.reasoning, usage.source)


def cost_columns(cost: Cost) -> Row:
    """Micro-units, currency, version of the prices."""
    return (cost.micros, cost.currency, cost.prices)
