"""LLM providers: one pooled HTTP client a process, one wire adapter a format.

`ProviderClient.call` makes one call and yields what comes: lists of `AnswerPart`, and at the end one `CallEnded`.
"""

from connectors.providers.client import ProviderClient
from connectors.providers.exchange import CallEnded, CallFailed

__all__ = ["CallEnded", "CallFailed", "ProviderClient"]
