"""What must be true of requests to a provider that fails: pure functions of what was seen, each giving complaints."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.faults.provider_mix import KINDS, Case, Ending

SLACK_S = 8.0
"""On top of what the provider's behaviour costs by itself: two cores, busy with other things too."""
AT_ONCE_S = 0.2
"""What a good request may take, before slack."""
CLOSED_WITHIN_S = 1.0
CLOSED_SLACK_S = 2.0

Event = dict[str, Any]
Call = dict[str, Any]


@dataclass
class Held:
    """What a client has in its hands. `began` and `left` are Unix times; `code` is the error object's, `done` that the
    stream said so; an SSE reader has the `end` record instead."""

    case: Case
    began: float
    seconds: float = 0.0
    id: str | None = None
    http: int | None = None
    text: str = ""
    finish: str | None = None
    code: str | None = None
    retry_after: str | None = None
    done: bool = False
    left: float | None = None
    seqs: tuple[int, ...] = ()
    end: Event | None = None


def of_stream(case: Case, events: Sequence[Event]) -> list[str]:
    """The records of topic `tokens` for one request: no hole, no repeat, one end, and that a right one."""
    events = [event for event in events if event["type"] in ("tokens", "end")]
    ends = [event for event in events if event["type"] == "end"]
    if len(ends) != 1 or events[-1] is not ends[0]:
        return [f"{len(ends)} ends among {len(events)} records, the last {events[-1:]}"]
    found = []
    if [event["seq"] for event in events] != list(range(len(events))):
        found.append(f"the records are numbered {[event['seq'] for event in events]}")
    (end,), text = ends, text_of(events)
    if ending(end) not in case.right(text):
        found.append(f"it ended as {ending(end)}: {end.get('message')}; right were {set(case.right(text))}")
    if not case.says(text, end["status"]):
        found.append(f"nobody said {text!r}")
    return found


def of_client(held: Held, events: Sequence[Event]) -> list[str]:
    """What the client holds is what the stream says, told as HTTP tells it."""
    text, end = text_of(events), events[-1]
    if held.left is not None:
        return [] if text.startswith(held.text) else [f"it holds {held.text!r} of {text!r}"]
    if held.case.client == "kafka":
        return _of_sse(held, events)
    right = ending(end)
    answered = right.http == 200
    streams = held.case.client == "stream"
    opened = answered or (streams and text != "")
    wanted = {
        "http": 200 if opened else right.http,
        "text": text if opened else "",
        "finish": {"completed": "stop", "stopped": "length"}.get(right.status),
        "code": None if answered else end["error"]["code"],
        "done": streams and answered,
    }
    found = [f"{name} is {getattr(held, name)!r}, not {want!r}" for name, want in wanted.items() if
             getattr(held, name) != want]  # fmt: skip
    if right.http == 503 and held.retry_after is None:
        found.append("no Retry-After")
    return found


def of_time(held: Held) -> list[str]:
    """It took no longer than its provider's behaviour explains; a good request no time to speak of."""
    kind = KINDS[held.case.kind]
    bound = (AT_ONCE_S if held.case.kind == "good" else kind.within_s + AT_ONCE_S) + SLACK_S
    return [f"took {held.seconds:.2f} s, more than {bound:.1f} s"] if held.seconds > bound else []


def of_calls(held: Held, end: Event, journal: Sequence[Event], calls: Sequence[Call]) -> list[str]:
    """The provider's own record: a call for each run and none else, none after the end, none open for long after it."""
    runs = [event["run"] for event in journal if event["type"] == "run_started"]
    called = [event["run"] for event in journal if event["type"] == "run_started" if event["target"]["model"] != "x"]
    found = []
    if len(runs) > 1 + held.case.two:
        found.append(f"{len(runs)} runs")
    if [event["run"] for event in journal if event["type"] == "run_ended"] != runs:
        found.append("the runs that began are not those that ended")
    made = [call["request_id"] for call in sorted(calls, key=lambda call: call["started"])]
    if made != called and not (held.left is not None and made == []):
        found.append(f"calls {made}, runs {called}")
    over = end["at_ms"] / 1000 if held.left is None else held.left
    for call in calls:
        # A cancel may cross the call that is just being made; such a call is bound by when it must have closed.
        if held.left is None and _unix(call["started"]) * 1000 > end["at_ms"] + 1:
            found.append(f"called {_unix(call['started']) - end['at_ms'] / 1000:.3f} s after the end")
        if call["ended"] is None:
            found.append("a call goes on")
        elif _unix(call["ended"]) - over > CLOSED_WITHIN_S + CLOSED_SLACK_S:
            found.append(f"a call went on for {_unix(call['ended']) - over:.2f} s")
    return found


def text_of(events: Sequence[Event]) -> str:
    """The released text."""
    return "".join(event["text"] for event in events if event["type"] == "tokens")


def ending(end: Event) -> Ending:
    """Status, reason, and the HTTP status that tells them."""
    told = {"completed": 200, "stopped": 200, "cancelled": 0}.get(end["status"])
    return Ending(end["status"], end["reason"], end["error"]["status"] if told is None else told)


def _of_sse(held: Held, events: Sequence[Event]) -> list[str]:
    found = []
    end = events[-1]
    if held.text != text_of(events):
        found.append(f"it holds {held.text!r} of {text_of(events)!r}")
    if held.seqs != tuple(event["seq"] for event in events):
        found.append(f"it was sent {held.seqs}")
    if held.end is None or any(held.end[name] != end[name] for name in ("status", "reason", "seq")):
        found.append(f"its end is {held.end}")
    return found


def _unix(when: str) -> float:
    return datetime.fromisoformat(when).timestamp()
