"""Who is asking: API keys with scopes, dashboard logins, and the shortcuts of a developer's own machine."""

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from flask import g, request

from pulse.config import Config, Network
from pulse.errors import Forbidden, Unauthorized
from pulse.web.service import service

# With these and every X-Forwarded-…: proxies differ in which they add, and one is enough to know that there is one.
_FORWARDING = frozenset(
    {"forwarded", "forwarded-for", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-host",
     "true-client-ip", "cf-connecting-ip", "cdn-loop"}
)  # fmt: skip
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; `project_id` None means every project."""

    project_id: int | None
    scopes: frozenset[str]
    name: str


_ADMINISTRATOR = frozenset({"read", "admin"})


def client_address(config: Config, environ: dict[str, Any]) -> str:
    """Return the client's address: the peer's, or past trusted proxies the last one they did not add themselves."""
    address: str = environ.get("REMOTE_ADDR") or ""
    if not config.trusted_proxies or not _is_within(address, config.trusted_proxies):
        return address
    for hop in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        candidate = hop.strip().strip("[]")
        if not candidate:
            continue
        try:
            ipaddress.ip_address(candidate)
        except ValueError:
            return address
        address = candidate
        if not _is_within(address, config.trusted_proxies):
            return address
    return address


def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def is_own_machine(config: Config) -> bool:
    """Tell whether this is a developer at the machine itself: loopback peer and host, nothing forwarded.

    The Host check stops DNS rebinding, the Origin check other sites' pages in the developer's browser.
    """
    if not config.is_development or any(_tells_of_proxy(name) for name, _ in request.headers):
        return False
    try:
        if not ipaddress.ip_address(request.remote_addr or "").is_loopback:
            return False
    except ValueError:
        return False
    if _host_name(request.host) not in _LOOPBACK_HOSTS:
        return False
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return False
    return origin is None or origin == request.host_url.rstrip("/")


def _tells_of_proxy(header: str) -> bool:
    name = header.lower()
    return name in _FORWARDING or name.startswith("x-forwarded")


def _host_name(host: str) -> str:
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def presented_key(environ: dict[str, Any]) -> str | None:
    """Return the API key in the headers of a WSGI request."""
    key: str | None = environ.get("HTTP_X_API_KEY")
    if key:
        return key
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    return authorization[7:].strip() if authorization[:7].lower() == "bearer " else None


def key_in_query(environ: dict[str, Any]) -> str | None:
    """Return the key in `?api_key=`, which is for tracking only: addresses end up in logs."""
    query: str = environ.get("QUERY_STRING", "")
    return parse_qs(query).get("api_key", [None])[0] if "api_key=" in query else None


def require(scope: str, project_id: int | None = None) -> Caller:
    """Return the caller if it may do this. Raises Unauthorized without a valid key or login, Forbidden otherwise."""
    caller = identify()
    if scope == "ingest" and project_id is None:
        project_id = caller.project_id
    if scope not in caller.scopes:
        raise Forbidden(f"This key has no {scope} scope.")
    if caller.project_id is not None and caller.project_id != project_id:
        raise Forbidden("This key belongs to another project.")
    return caller


def identify() -> Caller:
    """Return who is asking. Raises Unauthorized."""
    parts = service()
    text = presented_key(request.environ)
    if text:
        key = parts.keys.get(text) if len(text) <= 200 else None
        if key is None:
            raise Unauthorized("The API key is unknown or revoked.")
        scopes = frozenset(key.scopes)
        return Caller(key.project_id, scopes | _ADMINISTRATOR if "admin" in scopes else scopes, key.name)
    user = getattr(g, "pulse_user", None)
    if user is not None:
        return Caller(None, _ADMINISTRATOR, user)
    if is_own_machine(parts.config):
        return Caller(None, _ADMINISTRATOR, "this machine")
    raise Unauthorized("This needs an API key (X-API-Key) or a login.")
