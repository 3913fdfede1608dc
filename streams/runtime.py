"""What every stage's process does around its work: logging, signals, the note that it is ready."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from streams.settings import Settings


@dataclass(frozen=True)
class Context:
    """What a stage is given: its name, and settings in which every address is resolved."""

    stage: str
    settings: Settings

    @property
    def member(self) -> str:
        """The stable instance id by which a restarted worker takes its place again."""
        return f"{self.stage}-{self.settings.instance}"

    @property
    def ready_file(self) -> Path:
        """Where the process notes that it works, for the supervisor."""
        return self.settings.home / "run" / f"{self.member}.json"

    @property
    def mark_file(self) -> Path:
        """Where the process marks which records it is taking, for its successor."""
        return self.ready_file.with_suffix(".mark")

    def announce_ready(self, **facts: object) -> None:
        """Note, atomically, that this process works; `facts` are addresses that others need."""
        self.ready_file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.ready_file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(orjson.dumps({"pid": os.getpid(), **facts}))
        draft.replace(self.ready_file)

    @property
    def succeeded(self) -> bool:
        """Whether a successor works in this process's place."""
        try:
            return bool(orjson.loads(self.ready_file.read_bytes())["pid"] != os.getpid())
        except FileNotFoundError:  # it is being started
            return False


def collect_seldom() -> None:
    """Let the cycle collector pass over what is loaded by now, and come by more seldom than after 700 new containers.

    What a stage makes for a record is freed by its reference count; the collector took a fifth of the time of edge and
    dispatch, and a third of the sink's.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Stopping:
    """Set by a signal: SIGTERM asks to drain, SIGINT to end what is open now."""

    def __init__(self) -> None:
        self.asked = False
        self.now = False

    def listen(self, wake: Callable[[], None] = lambda: None) -> "Stopping":
        """Take both signals; `wake` is called from the handler."""

        def handle(number: int, _: object) -> None:
            self.asked = True
            self.now = self.now or number == signal.SIGINT
            wake()

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)
        return self


def set_up_logging(stage: str) -> None:
    """One line an event on standard error, with the stage's name."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {stage} %(levelname)s %(message)s",
        force=True,
    )
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
