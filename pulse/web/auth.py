"""Dashboard login: signed session cookie, CSRF tokens, and a limit on tries."""

import hmac
import math
import secrets
import time
from urllib.parse import quote, urlsplit

import limits
from flask import Blueprint, Flask, Request, g, redirect, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from redis.exceptions import RedisError

from pulse.config import Config
from pulse.errors import Forbidden, RateLimited
from pulse.storage.projects import check_password, end_logins
from pulse.web.access import client_address, is_own_machine, presented_key
from pulse.web.http import read_form
from pulse.web.pages import Access, render_login
from pulse.web.service import service

LOGIN_TRIES = "5 per minute; 30 per hour"
SESSION_DAYS = 14
_WITHOUT_LOGIN = {"auth", "tracking"}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def install(app: Flask, config: Config) -> Access:
    """Set up cookies, the login views and the CSRF check; return what pages need to know."""
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_NAME="pulse_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.env == "production",
        PERMANENT_SESSION_LIFETIME=SESSION_DAYS * 86400,
    )
    tries = _Tries(config)
    found = Access(guard=lambda: _guard(config), user=_user, csrf_token=_csrf_token)
    blueprint = Blueprint("auth", __name__)

    @blueprint.post("/login")
    def log_in() -> ResponseReturnValue:
        tries.count(client_address(config, request.environ))
        form = read_form()
        email = form.get("email", "")[:254]
        _check_token(form.get("csrf_token", ""))
        with service().database.begin() as connection:
            user = check_password(connection, email, form.get("password", ""))
        if user is None:
            wrong = "The address or the password is wrong."
            return render_login(found, target=form.get("next", ""), error=wrong, email=email, status=401)
        target = _own_path(form.get("next", ""))
        session.clear()  # a new session: a token planted before the login is worth nothing after it
        session.permanent = True
        session["user"] = user.email
        session["logins"] = user.logins
        service().forget()
        return redirect(target, 303)

    @blueprint.post("/logout")
    def log_out() -> ResponseReturnValue:
        _check_token(read_form().get("csrf_token", ""))
        user = _user()
        if user is not None:  # a copy of the cookie must not outlive it
            with service().database.begin() as connection:
                end_logins(connection, user)
            service().forget()
        session.clear()
        return redirect("/login", 303)

    app.register_blueprint(blueprint)
    return found


class _Sessions(SecureCookieSessionInterface):
    """Flask's signed cookie, but not for tracking: there it means nothing, and unpacking it costs 4 % of an event.

    Without a cookie there is nothing to unpack, and no reason to derive the key: 4 % of a report from the cache.
    """

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if request.path.startswith("/api/v1/track/"):
            return None
        if self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)


class _Tries:
    """Counts tries to log in by address: in Redis for all workers together, in this process while Redis is away."""

    def __init__(self, config: Config) -> None:
        url = config.redis_url or ""
        self._rules = limits.parse_many(LOGIN_TRIES)
        self._local = FixedWindowRateLimiter(MemoryStorage())
        shared = url.startswith(("redis://", "rediss://"))
        self._shared = FixedWindowRateLimiter(storage_from_string(url)) if shared else self._local

    def count(self, address: str) -> None:
        """Count one try. Raises RateLimited."""
        try:
            self._count(self._shared, address)
        except RedisError:
            self._count(self._local, address)

    def _count(self, limiter: FixedWindowRateLimiter, address: str) -> None:
        for rule in self._rules:
            if not limiter.hit(rule, "login", address):
                wait_s = limiter.get_window_stats(rule, "login", address).reset_time - time.time()
                raise RateLimited("Too many tries to log in; wait a while.", retry_after_s=max(1, math.ceil(wait_s)))


def load_user() -> None:
    """Take the login from the cookie for API calls; ones that change something must carry the CSRF token too.

    The forms check a token of their own, and tracking goes by its key alone: the owner's visits send the cookie too.
    """
    if "pulse_session" not in request.cookies or presented_key(request.environ) or request.blueprint in _WITHOUT_LOGIN:
        return
    user = _user()
    if user is None:
        return
    if request.method not in _SAFE_METHODS:
        _check_token(request.headers.get("X-CSRF-Token", ""))
    g.pulse_user = user


def _user() -> str | None:
    user = session.get("user")
    if not isinstance(user, str) or service().logins.get(user) != session.get("logins"):
        return None
    return user


def _csrf_token() -> str:
    token = session.get("csrf")
    if not isinstance(token, str):
        token = secrets.token_urlsafe(24)
        session["csrf"] = token
    return token


def _check_token(given: str) -> None:
    token = session.get("csrf")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), given.encode("utf-8", "replace")):
        raise Forbidden("The form is out of date; load the page again.")


def _guard(config: Config) -> ResponseReturnValue | None:
    if _user() is not None or is_own_machine(config):
        return None
    return redirect(f"/login?next={quote(request.full_path.rstrip('?'))}", 303)


def _own_path(text: str) -> str:
    """Return a path of this service, whatever the form says: never another site."""
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that do not close
        return "/"
    if parts.scheme or parts.netloc or not text.startswith("/") or text.startswith(("//", "/\\")) or "\\" in text:
        return "/"
    return text if text.isprintable() else "/"
