"""HTTP in one place: endpoints with typed queries, bodies and answers; one shape for answers and errors; ETags."""

import gzip
import hashlib
import logging
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from flask import Blueprint, Flask, Response, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from pulse.errors import BadRequest, Detail, Invalid, PulseError, RequestTimeout, TooLarge, UnsupportedMediaType
from pulse.ingest.uuid7 import new_event_id
from pulse.web import access

log = logging.getLogger("pulse.web")

MAX_BODY_BYTES = 512 * 1024
_PIECE_BYTES = 64 * 1024
MAX_GZIP_MEMBERS = 100
# The login has four fields; to take 512 KiB of short ones apart holds the event loop up for 0.1 s.
MAX_FORM_BYTES = 8 * 1024
MAX_FORM_FIELDS = 20
COMPRESSED_FROM_BYTES = 1024
_COMPRESSED = frozenset({"application/json", "text/plain"})
UNREAD = "pulse.unread"  # in the WSGI environment: a part of the body is still on its way

F = TypeVar("F", bound=Callable[..., Any])
_encode = msgspec.json.Encoder().encode
_PATH = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API, as it is served and as it is described in the OpenAPI document."""

    method: str
    path: str
    summary: str
    scope: str | None
    query: type[msgspec.Struct] | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    tag: str = ""
    errors: tuple[int, ...] = ()
    content_types: tuple[str, ...] = ("application/json",)


@dataclass
class Api:
    """Registers typed endpoints on a blueprint and remembers them for the OpenAPI document.

    A handler takes its path parameters, `query` (an instance of the query struct) and `body` by name and returns a
    value for `data`, or a whole Response. With scope `read` the path's `project_id` must be the caller's.
    """

    blueprint: Blueprint
    tag: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def __call__(
        self,
        method: str,
        path: str,
        summary: str,
        *,
        scope: str | None,
        query: type[msgspec.Struct] | None = None,
        body: Any = None,
        answer: Any = None,
        status: int = 200,
    ) -> Callable[[F], F]:
        endpoint = Endpoint(method, path, summary, scope, query, body, answer, status, self.tag)
        self.endpoints.append(endpoint)

        def register(handler: F) -> F:
            def view(**path_values: Any) -> Response:
                if scope is not None:
                    access.require(scope, path_values.get("project_id"))
                if query is not None:
                    path_values["query"] = read_query(query)
                if body is not None:
                    path_values["body"] = read_json(body)
                result = handler(**path_values)
                return result if isinstance(result, Response) else answer_json(result, status)

            self.blueprint.add_url_rule(path, f"{method}_{handler.__name__}", view, methods=[method])
            return handler

        return register


def answer_json(data: Any, status: int = 200) -> Response:
    """Wrap `data` in the success envelope."""
    return Response(encode_data(data), status, mimetype="application/json")


def encode_data(data: Any) -> bytes:
    """Return the whole body of a successful answer."""
    return _encode({"success": True, "data": data})


def answer_cached(body: bytes, *, max_age_s: int, cache_state: str) -> Response:
    """Answer with an encoded body, or 304 to who holds it; `cache_state` is HIT, MISS or STALE."""
    response = Response(body, mimetype="application/json")
    response.headers["Cache-Control"] = f"private, max-age={max_age_s}"
    response.headers["X-Cache"] = cache_state
    response.headers["Vary"] = "X-API-Key, Authorization, Cookie"
    response.set_etag(hashlib.blake2b(body, digest_size=12).hexdigest())
    response.make_conditional(request)
    return response


def compress(response: Response) -> None:
    """Gzip a JSON answer, or the metrics, for who takes it; 100 kB take 1 to 2 ms and become a seventh.

    Not pages: they hold tokens beside what was typed, and how well these compress together would tell them.
    """
    if response.mimetype not in _COMPRESSED or response.is_streamed or "Content-Encoding" in response.headers:
        return
    body = response.get_data()
    if response.status_code == 304 or len(body) <= COMPRESSED_FROM_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(body, 5, mtime=0))
        response.content_encoding = "gzip"
        etag, _ = response.get_etag()
        if etag is not None:
            response.set_etag(etag, weak=True)  # the same content in other bytes


def encode_error(error: PulseError) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of an error in the one shape all errors have."""
    content: dict[str, Any] = {"success": False, "error": error.code, "message": error.message}
    if error.details:
        content["details"] = [asdict(detail) for detail in error.details]
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _encode(content), headers


def answer_error(error: PulseError) -> Response:
    """Answer with an error in the one shape all errors have."""
    body, headers = encode_error(error)
    response = Response(body, error.status, headers, mimetype="application/json")
    if error.status == 413 or UNREAD in request.environ:
        response.headers["Connection"] = "close"  # or the server would read all that is still coming
    return response


def install_error_handlers(app: Flask) -> None:
    """Give every failure the one shape: ours, the framework's, and what nobody foresaw."""

    @app.errorhandler(PulseError)
    def known(error: PulseError) -> Response:
        return answer_error(error)

    @app.errorhandler(HTTPException)
    def framework(error: HTTPException) -> Response:
        status = error.code or 500
        response = answer_error(_as_pulse_error(error.name, status, error.description or error.name))
        for name, value in error.get_headers():
            if name in ("Allow", "Location", "Retry-After"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> Response:
        log.exception("unhandled error on %s %s", request.method, request.path, exc_info=error)
        return answer_error(PulseError(f"Something went wrong here; the log says more under {request_id()}."))


def _as_pulse_error(name: str, status: int, message: str) -> PulseError:
    error = PulseError(message)
    error.status = status  # type: ignore[misc]
    ours = {kind.status: kind.code for kind in PulseError.__subclasses__()}
    error.code = ours.get(status, re.sub(r"\W+", "_", name).upper())  # type: ignore[misc]
    return error


def request_id() -> str:
    """Return this request's id: the caller's X-Request-Id if it is harmless, else a new one."""
    found = getattr(g, "pulse_request_id", None)
    if found is None:
        found = given_request_id(request.environ) or new_event_id()
        g.pulse_request_id = found
    return str(found)


def given_request_id(environ: dict[str, Any]) -> str | None:
    """Return the caller's X-Request-Id, unless it is none or could do harm in a log."""
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    return given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else None


def read_body(environ: dict[str, Any], limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body of a WSGI request, unpacked if it is gzip.

    Raises TooLarge past `limit` bytes, before or after unpacking, RequestTimeout for one that is too long in coming,
    and BadRequest for one that does not arrive whole.
    """
    length = _content_length(environ)
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        body = _read(environ["wsgi.input"], limit + 1 if length is None else length)
    except TimeoutError:
        environ[UNREAD] = True
        raise RequestTimeout from None
    except (OSError, ParseException):
        body = b""
        length = 1
    if length is not None and len(body) < length:
        environ[UNREAD] = True
        raise BadRequest("The body did not arrive whole and well-formed.")
    if len(body) > limit:
        raise _too_large(limit)
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(body, limit)
    raise UnsupportedMediaType(f"The content encoding {encoding[:40]!r} is not understood; use gzip or none.")


def _read(stream: Any, size: int) -> bytes:
    """Return up to `size` bytes. What came of a body that is given up is let go before its refusal is sent."""
    pieces: list[bytes] = []
    try:
        while size > 0 and (piece := stream.read(min(size, _PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
    except BaseException:
        pieces.clear()
        raise
    return b"".join(pieces)


def _content_length(environ: dict[str, Any]) -> int | None:
    """Return how many bytes the body has; None for a chunked one, whose end the server tells."""
    text = environ.get("CONTENT_LENGTH", "")
    if text.isdecimal() and text.isascii():
        return int(text)
    return None if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ else 0


def _gunzip(body: bytes, limit: int) -> bytes:
    unpacked = b""
    # A file of gzip may be several, one after the other (RFC 1952); each costs a copy of what follows it.
    for _ in range(MAX_GZIP_MEMBERS):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked += unpacker.decompress(body, limit + 1 - len(unpacked))
        except zlib.error:
            raise BadRequest("The body is not gzip, as its Content-Encoding says.") from None
        if len(unpacked) > limit:
            raise _too_large(limit)
        if not unpacker.eof:
            raise BadRequest("The gzip body is cut short.")
        body = unpacker.unused_data
        if not body:
            return unpacked
    raise BadRequest(f"The gzip body has more than {MAX_GZIP_MEMBERS} members.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit} bytes.",
        details=[Detail("body", f"at most {limit} bytes, before and after unpacking")],
    )


def read_json(kind: Any) -> Any:
    """Decode a JSON body. Raises UnsupportedMediaType, BadRequest, or Invalid naming the field."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be application/json.")
    body = read_body(request.environ)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {str(error).removeprefix('JSON is malformed: ')}.") from None


def read_form() -> dict[str, str]:
    """Return the fields of a form. Raises what `read_body` does, with a limit of its own, and BadRequest.

    Flask's own reads a chunked one of any size.
    """
    text = read_body(request.environ, MAX_FORM_BYTES).decode(errors="replace")
    try:
        return dict(parse_qsl(text, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise BadRequest(f"The form has more than {MAX_FORM_FIELDS} fields.") from None


def read_query(kind: type[msgspec.Struct]) -> Any:
    """Convert the query string; camelCase and snake_case names both work, empty values count as absent."""
    given, values = request.args, {}
    for name, twin in _parameters(kind) if given else ():
        text = given.get(name) or given.get(twin)
        if text:
            values[name] = text
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explain(str(error), "query") from None


@lru_cache(maxsize=100)
def _parameters(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Return the names of a query's parameters in both spellings; working them out takes 20 µs."""
    return [(item.encode_name, _snake(item.encode_name)) for item in msgspec.structs.fields(kind)]


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def _explain(message: str, where: str) -> Invalid:
    match = _PATH.fullmatch(message)
    path = (match[2] if match else None) or where
    rule = (match[1] if match else message).replace("`", "")
    if "matching regex" in rule:
        rule = "holds characters that are not allowed here, or nothing to see"
    missing = re.search(r"missing required field (\w+)", rule)
    if missing:
        path, rule = (f"{path}.{missing[1]}" if path != where else missing[1]), "is required"
    return Invalid(f"{path}: {rule}.", details=[Detail(path, rule)])
