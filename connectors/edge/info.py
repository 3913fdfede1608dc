"""`/v1/models`, `/healthz`, `/readyz`: what a tenant may use, and how this server is."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from connectors.edge.auth import Auth
from connectors.edge.errors import ApiError
from connectors.edge.http import JSON, respond

Probe = Callable[[], Awaitable[bool]]


class Models:
    """The models that the tenant's routes name."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        routes = self._auth.rights(self._auth.by_header(scope)).routes
        name = scope["path_params"].get("model")
        if name is None:
            body: dict[str, Any] = {"object": "list", "data": [_model(model) for model in sorted(routes)]}
        elif name in routes:
            body = _model(name)
        else:
            raise ApiError(404, "model_not_found", f"model `{name[:200]}` does not exist", "model")
        await respond(send, 200, orjson.dumps(body), JSON)


class Healthz:
    """Answers as long as the process works at all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, b'{"status":"ok"}', JSON)


class Readyz:
    """Says whether requests can be served, and what is missing if not; `degraded` names what some requests need."""

    def __init__(self, needed: dict[str, Probe], wanted: dict[str, Probe]) -> None:
        self._needed = needed
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        missing = [name for name, probe in self._needed.items() if not await probe()]
        degraded = [name for name, probe in self._wanted.items() if not await probe()]
        body = {"ready": not missing, "missing": missing, "degraded": degraded}
        await respond(send, 503 if missing else 200, orjson.dumps(body), JSON)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "sluice"}
