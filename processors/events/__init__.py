"""The event types, by subject. Names, fields and versions are rendered to docs/asyncapi.yaml."""

from processors.events.base import VERSION, Cost, EdgeRef, Event, Kind, Target, ToolCall, Usage
from processors.events.facts import (
    Action,
    Answer,
    ApiKey,
    Health,
    Outcome,
    PolicyPublished,
    Summary,
    Verdict,
    VerdictEvent,
)
from processors.events.journal import (
    NO_REQUEST,
    AnswerPart,
    CachedAnswer,
    Cancel,
    Choice,
    Chunk,
    Decision,
    EdgeStarted,
    ErrorClass,
    GivenUp,
    Joined,
    JournalEvent,
    Judgement,
    Leased,
    Left,
    Opinion,
    Order,
    Refusal,
    Rejection,
    RunAlive,
    RunEnded,
    RunError,
    RunStarted,
    Scored,
    Stop,
    TimedOut,
)
from processors.events.request import PROVIDER_PARAMETERS, Envelope, Message, OnDisconnect, Request
from processors.events.tokens import End, EndError, EndStatus, Opened, TokenEvent, Tokens

__all__ = [
    "NO_REQUEST", "PROVIDER_PARAMETERS", "VERSION", "Action", "Answer", "AnswerPart", "ApiKey", "CachedAnswer",
    "Cancel", "Choice", "Chunk", "Cost", "Decision", "EdgeRef", "EdgeStarted", "End", "EndError", "EndStatus",
    "Envelope", "ErrorClass", "Event", "GivenUp", "Health", "Joined", "JournalEvent", "Judgement", "Kind", "Leased",
    "Left", "Message", "OnDisconnect", "Opened", "Opinion", "Order", "Outcome", "PolicyPublished", "Refusal",
    "Rejection", "Request", "RunAlive", "RunEnded", "RunError", "RunStarted", "Scored", "Stop", "Summary", "Target",
    "TimedOut", "TokenEvent", "Tokens", "ToolCall", "Usage", "Verdict", "VerdictEvent",
]  # fmt: skip
