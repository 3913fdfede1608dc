"""A record of `requests`, judged as far as it can be without the cache."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from processors.admission.validate import RequestRejected, read_request, text_parts
from processors.budgets import Account, accounts
from processors.cache import cache_key, may_read, may_write
from processors.codec import BadRecord, Headers, check_version
from processors.events import NO_REQUEST, Cancel, Choice, Decision, Envelope, Refusal, Rejection, Request
from processors.guard.messages import Language, language_of, message
from processors.guard.rules import CompiledRules
from processors.identity import content_hash, uuid7_time
from processors.money import estimate_tokens
from processors.policy import Effective
from processors.rule import Rule

MAX_REQUEST_BYTES = 1 << 20
MAX_SKEW = timedelta(minutes=5)
"""How far an id's time may lie from its record's append time."""
TOO_LATE = timedelta(minutes=10)
"""What is reached so long after its id's time is dead-lettered and has no end: its memory may be gone."""
DEFAULT_EXPIRY = timedelta(seconds=60)

_envelope = msgspec.json.Decoder(Envelope)
View = Callable[[str], tuple[Effective, CompiledRules] | None]
"""What a tenant lives under now; None for a tenant the policy does not declare."""


class Examined(NamedTuple):
    """A request that may be served. `read_key` and `write_key` name its answer in the cache, where that is allowed."""

    request: Request
    raw: bytes
    effective: Effective
    submitted: datetime
    prompt_tokens: int
    language: Language
    flags: tuple[str, ...]
    unscreened: tuple[str, ...]
    read_key: str | None
    write_key: str | None
    accounts: tuple[Account, ...]
    """What it is booked to of shared budgets."""


def examine(
    value: bytes | None, headers: Headers, appended: datetime, now: datetime, view: View
) -> Examined | Decision | Cancel:
    """Judge a record: a request to serve, a decision that ends it, or the cancel of another.

    Raises:
        BadRecord: it has no valid id or no known tenant, so that nobody can be told; it is dead-lettered.
    """
    check_version(headers)
    envelope = _read_envelope(value)
    assert value is not None
    lives = _check_identity(envelope, appended, now, view)
    if envelope.cancel:
        return Cancel(envelope.id, envelope.tenant)
    effective, rules = lives
    request: Request | None = None
    try:
        _check_size(value)
        request = read_request(value, now)
        _check_servable(request, effective, appended, now)
    except RequestRejected as rejected:
        if rejected.code == "invalid_json":  # deeper than the envelope looked
            raise BadRecord("undecodable", rejected.message) from None
        choice = Rejection(rejected.status, rejected.code, rejected.message, rejected.param)
        return _decision(envelope, value, effective, appended, choice, request)
    return _screen(request, value, effective, rules, appended)


def give_up(value: bytes | None, appended: datetime, now: datetime, view: View) -> Decision:
    """End a request that must not be looked into: to do so has killed the process.

    Raises:
        BadRecord: nobody can be told.
    """
    envelope = _read_envelope(value)
    assert value is not None
    effective, _ = _check_identity(envelope, appended, now, view)
    choice = Rejection(500, "internal_error", "An internal error ended the request.")
    return _decision(envelope, value, effective, appended, choice)


def _read_envelope(value: bytes | None) -> Envelope:
    if value is None:
        raise BadRecord("null_value", "the record has no value")
    try:
        return _envelope.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", str(error)) from None


def _check_identity(
    envelope: Envelope, appended: datetime, now: datetime, view: View
) -> tuple[Effective, CompiledRules]:
    try:
        submitted = uuid7_time(envelope.id)
    except ValueError as error:
        raise BadRecord("invalid_id", str(error)) from None
    if abs(submitted - appended) > MAX_SKEW:
        raise BadRecord("invalid_id", f"the time in id, {submitted.isoformat()}, is over 5 minutes off the record's")
    lives = view(envelope.tenant)
    if lives is None:
        raise BadRecord("unknown_tenant", f"tenant {envelope.tenant[:100]!r} is not declared in the policy")
    if not envelope.cancel and now - submitted > TOO_LATE:
        raise BadRecord("expired", "reached more than 10 minutes after the time in its id")
    return lives


def _check_size(value: bytes) -> None:
    if len(value) > MAX_REQUEST_BYTES:
        message = f"the request is larger than {MAX_REQUEST_BYTES} bytes"
        raise RequestRejected(413, "request_too_large", None, message)


def _check_servable(request: Request, effective: Effective, appended: datetime, now: datetime) -> None:
    if now >= expires_at(request, appended):
        raise RequestRejected(504, "expired", "expires_at", "the request expired before it could be served")
    if request.model not in effective.routes:
        known = ", ".join(sorted(effective.routes)) or "none"
        raise RequestRejected(
            404, "model_not_found", "model", f"model `{request.model}` does not exist; known: {known}"
        )


def expires_at(request: Request, appended: datetime) -> datetime:
    """When the request is no longer to be begun: as it says, else a minute after it was submitted."""
    return request.expires_at or appended + DEFAULT_EXPIRY


def _screen(
    request: Request, value: bytes, effective: Effective, rules: CompiledRules, appended: datetime
) -> Examined | Decision:
    texts, unscreened = text_parts(request)
    cyrillic = sum(1 for text in texts for character in text if "\u0400" <= character <= "\u04ff")
    other = sum(map(len, texts)) - cyrillic
    tokens, language = estimate_tokens(effective.limits, cyrillic, other), language_of(cyrillic, other)
    found = [rule for text in texts for rule, _ in rules.prompts[language].find(text)]
    refusing = [rule for rule in found if rule.action == "refuse"]
    flags = tuple(dict.fromkeys(rule.id for rule in found if rule.action == "flag"))
    if refusing:
        envelope = Envelope(request.id, request.tenant)
        choice = _refusal(max(refusing, key=lambda rule: rule.severity), language)
        decision = _decision(envelope, value, effective, appended, choice, request)
        return msgspec.structs.replace(
            decision, flags=flags, unscreened=unscreened, prompt_tokens=tokens, language=language
        )
    readable, writable = may_read(request, effective.cache), may_write(request, effective.cache)
    key = cache_key(value, request.tenant, effective.hash) if readable or writable else None
    return Examined(
        request=request,
        raw=value,
        effective=effective,
        submitted=appended,
        prompt_tokens=tokens,
        language=language,
        flags=flags,
        unscreened=unscreened,
        read_key=key if readable else None,
        write_key=key if writable else None,
        accounts=accounts(effective.budgets, request.tenant, request.key, request.session, uuid7_time(request.id)),
    )


def _refusal(rule: Rule, language: Language) -> Refusal:
    said = message("refused", rule.id, language)
    return Refusal(rule=rule.id, category=rule.category, severity=rule.severity, message=said)


def _decision(
    envelope: Envelope,
    value: bytes,
    effective: Effective,
    appended: datetime,
    choice: Choice,
    request: Request | None = None,
) -> Decision:
    """The first decision on a request that ends it."""
    return Decision(
        id=envelope.id,
        tenant=envelope.tenant,
        attempt=1,
        policy=effective.version,
        body_hash=content_hash(value),
        choice=choice,
        submitted=appended,
        model=request.model if request else "",
        user=request.user if request else None,
        metadata=request.metadata if request else None,
        edge=request.edge if request else None,
        on_disconnect=request.on_disconnect if request else "continue",
        session=request.session if request else None,
        key=request.key if request else None,
        request=msgspec.Raw(value) if len(value) <= MAX_REQUEST_BYTES else NO_REQUEST,
    )
