"""One stage as a process of its own."""

import importlib
import inspect
from collections.abc import Callable

from connectors.priority import give_way
from processors.errors import Invalid
from streams import topology
from streams.runtime import Context, collect_seldom, set_up_logging
from streams.settings import ADDRESSES, Settings, load_settings

_BEHIND = frozenset({"fill", "health", "sink"})
"""Stages beside the path of a stream: nobody waits for them, so they do not hold up those that somebody waits for."""


def prepared(stage: str) -> Callable[[], None]:
    """What runs a stage until a signal, with the settings of the environment.

    Raises:
        Invalid: there is no such stage, or an address that it needs is not given.
    """
    known = topology.load().stages
    if stage not in known:
        raise Invalid("", f"{stage!r} is not a stage; known are {', '.join(known)}")
    settings = load_settings()
    _check_resolved(settings, known[stage].stores)
    set_up_logging(stage)
    main_of_stage = importlib.import_module(f"streams.{stage}").main
    context = Context(stage, settings)
    collect_seldom()
    if stage in _BEHIND:
        give_way()
    if not inspect.iscoroutinefunction(main_of_stage):
        return lambda: main_of_stage(context)
    import uvloop

    return lambda: uvloop.run(main_of_stage(context))


def _check_resolved(settings: Settings, stores: tuple[str, ...]) -> None:
    """A stage's process starts nothing, so every address it needs must be given."""
    given = {"kafka": settings.kafka if settings.kafka_mode == "external" else ""}
    given |= {name: getattr(settings, name) for name in ("redis", "clickhouse") if name in stores}
    for name, address in given.items():
        if not address:
            fix = f"a stage's process needs {ADDRESSES[name]}; `sluice up` sets it for its stages"
            raise Invalid(f"SLUICE_{name.upper()}", fix)
