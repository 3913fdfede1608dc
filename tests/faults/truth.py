"""The whole truth about a load, judged from outside: from evidence to violations, in words. Pure.

`violations(evidence)` is empty where every promise was kept. `may_fail` names, for the reason of an end, the part whose
kill may cause it; a stream that failed or was cancelled otherwise, or was not hit by such a kill, is a violation.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from tests.faults.counted import counted_once
from tests.faults.evidence import Evidence, Held, Record
from tests.faults.scripts import BLOCKED, Asked, moderated

ON_ITS_WAY_MS = 100
"""What was sent just before its connection was closed still arrives."""
CANCEL_SLACK_MS = 1500
"""How long after an edge's start a request of its predecessor may still complete: the guard has to read that start."""
HTTP_REASONS = {"content_filter": "content_filter", "token_limit": "length"}


NOTHING: Mapping[str, str] = {}


def violations(evidence: Evidence, may_fail: Mapping[str, str] = NOTHING) -> list[str]:
    """Everything that is not as promised."""
    log = Log(evidence)
    return list(
        chain(
            one_end(log),
            texts(log, may_fail),
            clients(log),
            plain_answers(log, may_fail),
            provider_calls(log),
            nothing_leaks(evidence),
            no_dead_letters(evidence),
            counted_once(evidence),
        )
    )


class Log:
    """The evidence, sorted by request."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.asked: dict[str, Asked] = {}
        """By request id: which script it had. A client whose socket broke before it learnt the id has asked twice."""
        self.begun: dict[str, float] = {}
        """By request id: when its client asked, which is earlier than its record where the log was away."""
        by_key = {held.asked.key: held for held in evidence.held}
        for record in evidence.topics.get("requests", []):
            key = (record.event.get("metadata") or {}).get("asked")
            if key in by_key and not record.event.get("cancel"):
                self.asked[record.event["id"]] = by_key[key].asked
                self.begun.setdefault(record.event["id"], min(record.at_ms, asked_ms(evidence, by_key[key])))
        self.tokens: dict[str, list[Record]] = defaultdict(list)
        for record in evidence.events("tokens", "tokens", "end"):
            self.tokens[record.event["id"]].append(record)
        self.journal: dict[str, list[Record]] = defaultdict(list)
        for record in evidence.topics.get("journal", []):
            if "id" in record.event:
                self.journal[record.event["id"]].append(record)

    def released(self, request: str) -> dict[int, Record]:
        """The first record of each seq, which is what counts."""
        found: dict[int, Record] = {}
        for record in self.tokens[request]:
            found.setdefault(record.event["seq"], record)
        return found

    def text(self, request: str) -> str:
        """What was released of a request."""
        records = (record.event for _, record in sorted(self.released(request).items()))
        return "".join(event["text"] for event in records if event["type"] == "tokens")

    def end(self, request: str) -> Record | None:
        """Its first end."""
        return next((record for record in self.tokens[request] if record.event["type"] == "end"), None)


def asked_ms(evidence: Evidence, held: Held) -> float:
    """When a client asked, in Unix time as the kills tell it; without a kill nobody wants to know."""
    return next((kill.at_ms + (held.asked_at - kill.at) * 1000 for kill in evidence.kills), float("inf"))


def one_end(log: Log) -> Iterator[str]:
    """Every request has exactly one terminal event, behind contiguous records; a repeated record equals the first."""
    for request in log.asked:
        records = log.tokens[request]
        first = log.released(request)
        ends = {seq for seq, record in first.items() if record.event["type"] == "end"}
        if len(ends) != 1:
            yield f"{request} has {len(ends)} ends"
        elif max(first) not in ends:
            yield f"{request} goes on after its end"
        if list(first) != list(range(len(first))):
            yield f"{request} is released as {list(first)}"
        for record in records:
            if record.event != first[record.event["seq"]].event:
                yield f"{request} has two different records {record.event['seq']}"
    for request in log.tokens.keys() - log.asked.keys():
        yield f"{request} was released and never asked for"


def texts(log: Log, may_fail: Mapping[str, str]) -> Iterator[str]:
    """What was released is exactly the moderated script, or the beginning of it where the end says that it failed."""
    for request, asked in log.asked.items():
        end = log.end(request)
        if end is None:
            continue
        text, (right, status, reason) = log.text(request), moderated(asked.text)
        said = (end.event["status"], end.event["reason"])
        if end.event["status"] in ("failed", "cancelled"):
            if not hits(log, request, may_fail.get(end.event["reason"], ""), lasting=True) and not cancelled(
                log, request, said
            ):
                yield f"{request} ended {said}: {end.event.get('message')}"
            if not right.startswith(text):
                yield f"{request} failed, and is not the beginning of what was to be said: {differ(text, right)}"
        elif said != (status, reason):
            yield f"{request} ended {said} and not {(status, reason)}"
        elif text != right:
            yield f"{request} is not what was to be said: {differ(text, right)}"


def cancelled(log: Log, request: str, said: tuple[str, str]) -> bool:
    """Whether that is the end of a request whose client has cancelled it."""
    cancels = [
        r for r in log.journal[request] if r.event["type"] == "cancel" and r.event.get("by", "client") == "client"
    ]
    return said == ("cancelled", "client") and bool(cancels)


def clients(log: Log) -> Iterator[str]:
    """Each reader that can resume holds what was released, each record once and in order, up to the end."""
    for held in log.evidence.held:
        if held.plain:
            continue
        name = f"the client of {held.asked.key} ({held.id})"
        if held.wrong:
            yield f"{name}: {held.wrong}"
        if not held.ended:
            yield f"{name} never saw an end"
        if held.gaps:
            yield f"{name} was told of a gap: {held.gaps}"
        seqs = [record["seq"] for record in held.records]
        if seqs != list(range(len(seqs))):
            yield f"{name} holds {seqs}"
        if held.id is None:
            continue
        released = log.released(held.id)
        for record in held.records:
            right = released.get(record["seq"])
            if right is None or not _same(record, right.event):
                yield f"{name} holds {record} where {right and right.event} was released"


def _same(shown: dict[str, Any], released: dict[str, Any]) -> bool:
    names = ("type", "id", "seq", "text") if released["type"] == "tokens" else ("type", "id", "seq", "status", "reason")
    return all(shown.get(name) == released.get(name) for name in names)


def plain_answers(log: Log, may_fail: Mapping[str, str]) -> Iterator[str]:
    """A plain answer is whole, or a declared failure; one whose edge died is broken off, and its request cancelled."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for request, asked in log.asked.items():
        by_key[asked.key].append(request)
    for held in log.evidence.held:
        if not held.plain:
            continue
        name = f"the plain answer of {held.asked.key} ({held.id})"
        right, _, reason = moderated(held.asked.text)
        requests = by_key[held.asked.key]
        if held.wrong:
            yield f"{name}: {held.wrong}"
        if len(requests) > 1:
            yield f"{name} was published {len(requests)} times"
        if held.outcome == "done":
            if (held.text, held.finish_reason) != (right, HTTP_REASONS.get(reason, "stop")):
                yield f"{name} is not what was to be said ({held.finish_reason}): {differ(held.text, right)}"
            continue
        if not right.startswith(held.text):
            yield f"{name} is not the beginning of what was to be said: {differ(held.text, right)}"
        if held.outcome == "broken":
            yield from _broken(log, held, name, requests)
        elif held.outcome in ("error", "refused"):
            ends = [end.event for request in requests if (end := log.end(request))]
            ended = any(end["status"] == "failed" for end in ends)
            if not ended and not (held.status == 503 and may_fail) and not closing(log, requests):
                yield f"{name} was told of a failure ({held.status}) that is none: {ends}"
        else:
            yield f"{name} ended {held.outcome or 'never'}"


def closing(log: Log, requests: list[str]) -> bool:
    """Whether an edge was to end while one of them was open: it tells its plain readers so, and that cancels."""
    return any(hits(log, request, "edge") for request in requests)


def _broken(log: Log, held: Held, name: str, requests: list[str]) -> Iterator[str]:
    broken_at = held.breaks[-1][0] if held.breaks else float("inf")
    if not any(kill.stage == "edge" and held.asked_at <= broken_at >= kill.at for kill in log.evidence.kills):
        yield f"{name} was broken off, and no edge has died"
    for request in requests:
        end = log.end(request)
        if end is None or end.event["status"] == "cancelled":
            continue
        starts = [r for r in log.evidence.events("journal", "edge_started") if r.partition == end.partition]
        begun = log.journal[request][0].offset if log.journal[request] else 0
        back = next((start for start in starts if start.offset > begun), None)
        if back is not None and end.at_ms > back.at_ms + CANCEL_SLACK_MS:
            yield f"{name} ended {end.event['status']} although its edge came back {end.at_ms - back.at_ms} ms before"


def provider_calls(log: Log) -> Iterator[str]:
    """No call without a run in the journal before it, none for a run that has ended, at most one more for each kill."""
    runs: dict[str, str] = {}
    ended: dict[str, Record] = {}
    for request, records in log.journal.items():
        for record in records:
            if record.event["type"] == "run_started":
                runs.setdefault(record.event["run"], request)
            elif record.event["type"] == "run_ended":
                ended.setdefault(record.event["run"], record)
    by_request: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in log.evidence.calls:
        run = call["request_id"]
        if run not in runs:
            yield f"the provider was called for a run {run} that is not in the journal"
            continue
        by_request[runs[run]].append(call)
        if run in ended and call["started_ms"] > ended[run].at_ms + ON_ITS_WAY_MS:
            yield f"the provider was called for run {run} after its end"
    for request, calls in by_request.items():
        if len({call["request_id"] for call in calls}) < len(calls):
            yield f"{request}: a run was called twice"
        allowed = 1 + hits(log, request, "dispatch", lasting=True) + hits(log, request, "kafka")
        if len(calls) > allowed:
            yield f"{request}: {len(calls)} provider calls, {allowed} allowed"
        end = log.end(request)
        late = [c for c in calls if end and c["started_ms"] > end.at_ms + 1000]  # what it stops is not yet read by then
        if len(late) > hits(log, request, "dispatch", lasting=True):  # one that was frozen goes on where it stood
            yield f"{request}: {len(late)} provider calls after its end"


def hits(log: Log, request: str, stage: str, lasting: bool = False) -> int:
    """How many kills of a part fell into the request's life; `lasting`: or any time until they were over."""
    end, begun = log.end(request), log.begun[request]
    until = float("inf") if end is None else end.at_ms
    kills = [kill for kill in log.evidence.kills if kill.stage == stage and kill.at_ms <= until]
    return sum(begun <= (max(kill.at_ms, kill.until_ms) if lasting else kill.at_ms) for kill in kills)


def nothing_leaks(evidence: Evidence) -> Iterator[str]:
    """No blocked phrase, not even in pieces, where a reader or an analyst of releases could see it."""
    shown: dict[str, str] = {}
    for record in evidence.events("tokens", "tokens"):
        shown.setdefault(f"{record.event['id']} in the log", "")
        shown[f"{record.event['id']} in the log"] += record.event["text"]
    for held in evidence.held:
        shown[f"{held.asked.key} at its client"] = held.text + "".join(r.get("text", "") for r in held.records)
    for name, text in shown.items():
        if BLOCKED.search(text):
            yield f"a blocked phrase was released: {name}"


def no_dead_letters(evidence: Evidence) -> Iterator[str]:
    """Nothing of a good load is dead-lettered."""
    for record in evidence.topics.get("dead-letters", []):
        yield f"a good record was dead-lettered: {json.dumps(record.event, ensure_ascii=False)[:300]}"


def differ(text: str, right: str) -> str:
    """Where two texts part."""
    at = next((i for i, (a, b) in enumerate(zip(text, right, strict=False)) if a != b), min(len(text), len(right)))
    return f"from character {at} of {len(text)} on {text[at : at + 30]!r} for {right[at : at + 30]!r} (of {len(right)})"
