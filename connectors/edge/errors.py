"""What a client is told when something cannot be done, in HTTP's and OpenAI's terms.

ApiError                 an answer that is an error; made by
├── not_found            no such stream, or not the tenant's: the two look alike
├── unauthorized         no key, an unknown or a revoked one
├── unavailable          something this server needs is away: worth another try
├── rejected             the request cannot be served as it is
├── unknown_name         a field or parameter that nobody here knows
└── NotSent              the log is away, and nothing was sent to it
ClientGone               there is nobody to tell
"""

from collections.abc import Iterable

from processors.admission.validate import RequestRejected

_KINDS = {403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is an error: status, OpenAI's `code`, `message` and `param`; `kind` is the end's own type."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: int = 1,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.kind = kind or _KINDS.get(status) or ("invalid_request_error" if status < 500 else "api_error")


class NotSent(ApiError):
    """The log cannot be reached, and the request was certainly not written to it."""

    def __init__(self) -> None:
        super().__init__(503, "log_unreachable", "the log cannot be reached; try again")


class ClientGone(Exception):
    """The client has closed its connection: there is nobody to tell anything."""


def not_found(request_id: str) -> ApiError:
    """The one answer to foreign and unknown ids."""
    return ApiError(404, "not_found", f"there is no stream {request_id[:64]}", "id")


def unauthorized(why: str) -> ApiError:
    """The key is missing, unknown or revoked."""
    return ApiError(401, "invalid_api_key", why)


def unavailable(code: str, message: str) -> ApiError:
    """Not now."""
    return ApiError(503, code, message)


def unknown_name(name: str, where: str, known: Iterable[str]) -> ApiError:
    """A field or parameter that would have no effect: never dropped in silence."""
    shown = name[:200]
    return ApiError(400, "unknown_parameter", f"`{shown}` is not known in {where}; known are {', '.join(known)}", shown)


def rejected(error: RequestRejected) -> ApiError:
    """A request that cannot be served, as an answer."""
    return ApiError(error.status, error.code, error.message, error.param)
