"""Dashboard login: signed session cookie, CSRF tokens, and a limit on tries."""

import hmac
import secrets
from urllib.parse import quote, urlsplit

from flask import Blueprint, Flask, g, redirect, request, session
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter

from pulse.config import Config
from pulse.errors import Forbidden
from pulse.storage.projects import check_password
from pulse.web.access import client_address, is_own_machine, presented_key
from pulse.web.pages import Access, render_login
from pulse.web.service import service

LOGIN_TRIES = "5 per minute; 30 per hour"
SESSION_DAYS = 14
_WITHOUT_LOGIN = {"auth", "tracking"}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def install(app: Flask, config: Config) -> Access:
    """Set up cookies, the login views and the CSRF check; return what pages need to know."""
    app.config.update(
        SESSION_COOKIE_NAME="pulse_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.env == "production",
        PERMANENT_SESSION_LIFETIME=SESSION_DAYS * 86400,
    )
    limiter = Limiter(
        key_func=lambda: client_address(config),
        storage_uri=_limiter_storage(config),
        in_memory_fallback_enabled=True,
        in_memory_fallback=[],
        default_limits=[],
        headers_enabled=True,
        retry_after="delta-seconds",
    )
    limiter.init_app(app)
    found = Access(guard=lambda: _guard(config), user=_user, csrf_token=_csrf_token)
    blueprint = Blueprint("auth", __name__)

    @blueprint.post("/login")
    @limiter.limit(LOGIN_TRIES)
    def log_in() -> ResponseReturnValue:
        email = request.form.get("email", "")[:254]
        _check_token(request.form.get("csrf_token", ""))
        with service().database.begin() as connection:
            user = check_password(connection, email, request.form.get("password", ""))
        if user is None:
            return render_login(found, error="The address or the password is wrong.", email=email, status=401)
        target = _own_path(request.form.get("next", ""))
        session.clear()  # a new session: a token planted before the login is worth nothing after it
        session.permanent = True
        session["user"] = user.email
        return redirect(target, 303)

    @blueprint.post("/logout")
    def log_out() -> ResponseReturnValue:
        _check_token(request.form.get("csrf_token", ""))
        session.clear()
        return redirect("/login", 303)

    app.register_blueprint(blueprint)
    return found


def _limiter_storage(config: Config) -> str:
    url = config.redis_url or ""
    return url if url.startswith(("redis://", "rediss://")) else "memory://"


def load_user() -> None:
    """Take the login from the cookie for API calls; ones that change something must carry the CSRF token too.

    The forms check a token of their own, and tracking goes by its key alone: the owner's visits send the cookie too.
    """
    if "pulse_session" not in request.cookies or presented_key() or request.blueprint in _WITHOUT_LOGIN:
        return
    user = _user()
    if user is None:
        return
    if request.method not in _SAFE_METHODS:
        _check_token(request.headers.get("X-CSRF-Token", ""))
    g.pulse_user = user


def _user() -> str | None:
    user = session.get("user")
    return user if isinstance(user, str) else None


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
    return text
