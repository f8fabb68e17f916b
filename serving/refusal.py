"""A request that isn't served: its status and words, in the form of OpenAI's errors."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_PAGE = "models-from-inside.md"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "not_found_error",
    408: "request_timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}


class Refused(Exception):
    """A request that isn't served, with the status and words that the scaffold gets.

    Args:
        status: of HTTP.
        message: what was found, and what to do.
        again: seconds after which the same request may be served; none where it never will.
    """

    def __init__(self, status: int, message: str, again: float | None = None) -> None:
        super().__init__(message)
        self.status, self.again = status, again


async def say(request: Request, error: Exception) -> Response:
    """The answer to a refused request, for Starlette's `exception_handlers`, to which a path unknown is one, too.

    Clients of OpenAI's API send a 429 again on their own accord; the headers tell them when, or that it's no use.
    """
    if isinstance(error, HTTPException):
        error = Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}; see docs/{_PAGE}")
    status = error.status if isinstance(error, Refused) else 500
    again = error.again if isinstance(error, Refused) else None
    kind = _TYPES.get(status, "server_error")
    headers = {"x-should-retry": "false"} if again is None else {"retry-after-ms": str(int(1000 * again) + 1)}
    body = {"error": {"message": str(error), "type": kind, "param": None, "code": kind}}
    return JSONResponse(body, status, headers=headers)
