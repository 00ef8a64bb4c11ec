"""The errors a client can be answered with: the HTTP status and code belong to the kind."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detail:
    """What is wrong with one field."""

    field: str
    message: str


class PulseError(Exception):
    """A failure whose message is safe to show to the client.

    `details` names the fields at fault; `retry_after_s` becomes the Retry-After header.
    """

    status = 500
    code = "INTERNAL_ERROR"

    def __init__(self, message: str, *, details: list[Detail] | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or []
        self.retry_after_s = retry_after_s


class BadRequest(PulseError):
    """The request can't be read at all: malformed JSON, an unreadable query parameter."""

    status, code = 400, "BAD_REQUEST"


class Unauthorized(PulseError):
    """No key or login, or one that is unknown or revoked."""

    status, code = 401, "UNAUTHORIZED"


class Forbidden(PulseError):
    """A valid key without the scope or the project asked for."""

    status, code = 403, "FORBIDDEN"


class NotFound(PulseError):
    """No such page, project, key or goal."""

    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(PulseError):
    """The path exists, the method does not."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class RequestTimeout(PulseError):
    """A head or a body that is too long in coming."""

    status, code = 408, "REQUEST_TIMEOUT"

    def __init__(self) -> None:
        super().__init__("The request did not arrive in time.")


class Conflict(PulseError):
    """The request contradicts what is stored."""

    status, code = 409, "CONFLICT"


class TooLarge(PulseError):
    """A body, a batch or a list over its limit."""

    status, code = 413, "TOO_LARGE"


class UnsupportedMediaType(PulseError):
    """A body of a content type or encoding that is not understood."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class Invalid(PulseError):
    """A readable request whose fields break a rule; `details` says which."""

    status, code = 422, "VALIDATION_FAILED"


class RateLimited(PulseError):
    """Too many requests for this key or address."""

    status, code = 429, "RATE_LIMITED"


class Unavailable(PulseError):
    """The service can't do this now; the client should come again."""

    status, code = 503, "UNAVAILABLE"


class ConfigError(Exception):
    """One message that names every bad setting, what it holds and what it may hold."""
