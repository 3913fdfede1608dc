"""Who asks: API keys as the compacted topic `keys` has them, and nothing of a key but its hash."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from connectors.edge.errors import ApiError, unauthorized
from connectors.edge.http import header
from connectors.policies import Policies
from processors.events import ApiKey
from processors.identity import key_hash
from processors.policy import Effective

SUBPROTOCOL = "sluice"
"""What the server answers to a client that offers its key as a subprotocol and this one beside it."""
KEY_SUBPROTOCOL = "sluice-key."


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated tenant, and the hash of the key by which it is one."""

    tenant: str
    key: str


class Auth:
    """Tells callers by their keys, and what they may use by the policy."""

    def __init__(self, key_of: Callable[[str], Any | None], policies: Policies) -> None:
        self._key_of = key_of
        self._policies = policies
        self._held: dict[str, dict[object, Callable[[], None]]] = {}

    def by_header(self, scope: Scope) -> Caller:
        """The caller of a request.

        Raises:
            ApiError: 401, or 403 where the key's tenant is not in the policy.
        """
        key = bearer(scope)
        if key is None:
            raise unauthorized("no API key was given; send it as `Authorization: Bearer KEY`")
        return self.by_key(key)

    def by_key(self, key: str) -> Caller:
        """The caller who holds this key; raises as `by_header`."""
        hashed = key_hash(key)
        if not self.valid(hashed):
            raise unauthorized("the API key is unknown or revoked")
        caller = Caller(self._key_of(hashed).tenant, hashed)  # type: ignore[union-attr]
        self.rights(caller)
        return caller

    def valid(self, hashed: str) -> bool:
        """Whether the key of this hash is one, now."""
        record = self._key_of(hashed)
        return isinstance(record, ApiKey) and record.revoked is None

    def hold(self, caller: Caller, owner: object, revoked: Callable[[], None]) -> None:
        """Call `revoked` when the caller's key is, until `release`."""
        self._held.setdefault(caller.key, {})[owner] = revoked
        if not self.valid(caller.key):
            revoked()

    def release(self, caller: Caller, owner: object) -> None:
        """What the caller opened is closed."""
        owners = self._held.get(caller.key, {})
        owners.pop(owner, None)
        if not owners:
            self._held.pop(caller.key, None)

    def changed(self, hashed: str) -> None:
        """The record of a key has changed."""
        if not self.valid(hashed):
            for revoked in list(self._held.get(hashed, {}).values()):
                revoked()

    def rights(self, caller: Caller) -> Effective:
        """What the policy in force gives the caller.

        Raises:
            ApiError: 403 for a tenant that it does not declare, 503 while there is no policy.
        """
        policy = self._policies.current()
        if policy is None:
            raise ApiError(503, "no_policy", "no policy is in force yet; an operator runs `sluice policy apply`")
        effective = policy.effective(caller.tenant)
        if effective is None:
            raise ApiError(403, "unknown_tenant", f"tenant {caller.tenant!r} is not declared in the policy")
        return effective


def bearer(scope: Scope) -> str | None:
    """The key in the Authorization header."""
    value = header(scope, b"authorization") or ""
    kind, _, key = value.partition(" ")
    return key.strip() if kind.lower() == "bearer" and key.strip() else None


def offered_key(scope: Scope) -> str | None:
    """The key among the subprotocols of a WebSocket handshake."""
    for name in scope.get("subprotocols", ()):
        if name.startswith(KEY_SUBPROTOCOL):
            return str(name[len(KEY_SUBPROTOCOL) :])
    return None
