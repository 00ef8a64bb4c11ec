"""Projects, their API keys, and the people who may log in."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from msgspec import Meta
from sqlalchemy import Connection

from pulse.errors import Conflict, Detail, Invalid, NotFound
from pulse.storage.sql import load_queries

Q = load_queries("projects")

SCOPES = ("ingest", "read", "admin")
DEVELOPMENT_KEY = "test_api_key"
# Names of secrets: what cookies are signed with, and what the ids that clients choose are hashed under.
COOKIES, VISITOR_IDS = "cookies", "visitor-id"
NO_ADMINISTRATOR = (
    "PULSE_ENV=production needs an administrator: `pulse user create you@example.com` makes a login,"
    " `pulse key create --admin` a key."
)
_PASSWORD_MIN = 10
_hasher = PasswordHasher()


# No control characters (PostgreSQL stores no NUL), and something to see.
Name = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
Domain = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:\[\]-]+$")]


class Project(msgspec.Struct, frozen=True, rename="camel"):
    """A site or app whose events are kept together; days are days in `timezone` (IANA)."""

    id: int
    name: str
    domain: str | None
    timezone: str
    created_at: datetime
    updated_at: datetime


class ApiKey(msgspec.Struct, frozen=True, rename="camel"):
    """A key as it can be shown again: never the key itself."""

    id: int
    project_id: int | None
    name: str
    scopes: list[str]
    key_prefix: str
    created_at: datetime
    revoked_at: datetime | None


class User(msgspec.Struct, frozen=True):
    """A person who may log in to the dashboard."""

    id: int
    email: str
    password_hash: str
    logins: int
    created_at: datetime


def list_projects(connection: Connection) -> list[Project]:
    """Return all projects, oldest first."""
    return [Project(**row) for row in connection.execute(Q.list_projects).mappings()]


def get_project(connection: Connection, project_id: int) -> Project:
    """Return one project. Raises NotFound."""
    row = None
    if 0 < project_id < 2**31:
        row = connection.execute(Q.get_project, {"id": project_id}).mappings().first()
    if row is None:
        raise NotFound(f"There is no project {project_id}.")
    return Project(**row)


def get_projects(connection: Connection, project_ids: Sequence[int]) -> dict[int, Project]:
    """Return several projects by id; those that are gone are missing."""
    rows = connection.execute(Q.get_projects, {"ids": list(project_ids)}).mappings()
    return {row["id"]: Project(**row) for row in rows}


def check_timezone(name: str, field: str = "timezone") -> str:
    """Return a time zone's name. Raises Invalid for one the IANA database does not hold."""
    if name not in available_timezones() - {"Factory", "localtime"}:
        raise Invalid(
            "The time zone is unknown.", details=[Detail(field, f"{name[:64]!r} is no IANA time zone (Europe/Berlin)")]
        )
    return ZoneInfo(name).key


def _check_labels(name: str | None, domain: str | None) -> None:
    """Raise Invalid for a name or domain that can't be shown."""
    problems = []
    if name is not None and not _is(Name, name):
        problems.append(Detail("name", "1 to 100 printable characters"))
    if domain is not None and not _is(Domain, domain):
        problems.append(Detail("domain", "a host name of at most 253 characters"))
    if problems:
        raise Invalid("The project is not usable.", details=problems)


def _is(kind: Any, text: str) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def create_project(connection: Connection, name: str, timezone: str = "UTC", domain: str | None = None) -> Project:
    """Store a new project. Raises Invalid."""
    _check_labels(name, domain)
    values = {"name": name, "timezone": check_timezone(timezone), "domain": domain}
    return Project(**connection.execute(Q.create_project, values).mappings().one())


def update_project(
    connection: Connection,
    project_id: int,
    *,
    name: str | None = None,
    timezone: str | None = None,
    domain: str | None | msgspec.UnsetType = msgspec.UNSET,
) -> Project:
    """Change what is given. Raises NotFound or Invalid."""
    before = get_project(connection, project_id)
    _check_labels(name, None if domain is msgspec.UNSET else domain)
    values = {
        "id": project_id,
        "name": name,
        "timezone": check_timezone(timezone) if timezone is not None else None,
        "set_domain": domain is not msgspec.UNSET,
        "domain": None if domain is msgspec.UNSET else domain,
    }
    changed = Project(**connection.execute(Q.update_project, values).mappings().one())
    if changed.timezone != before.timezone:
        connection.execute(Q.request_rebuild, {"id": project_id})
    return changed


def delete_project(connection: Connection, project_id: int) -> None:
    """Remove the project and its keys at once; the background worker removes its data. Raises NotFound."""
    get_project(connection, project_id)
    connection.execute(Q.delete_project, {"id": project_id})


def hash_key(key: str) -> bytes:
    """Return what is stored of a key. One SHA-256 is enough: keys are random, there is nothing to guess."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def create_key(
    connection: Connection, project_id: int | None, name: str, scopes: list[str], key: str | None = None
) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which can't be read again.

    `key` fixes the text (the development key). Raises Invalid for bad scopes, Conflict when the text is taken.
    """
    _check_scopes(project_id, scopes)
    if project_id is not None:
        get_project(connection, project_id)
    text = key or "pulse_" + secrets.token_urlsafe(24)
    values = {
        "project_id": project_id,
        "name": name,
        "scopes": sorted(set(scopes), key=SCOPES.index),
        "key_hash": hash_key(text),
        "key_prefix": text[:10],
    }
    row = connection.execute(Q.create_key, values).mappings().first()
    if row is None:
        raise Conflict("This key exists already.")
    return ApiKey(**row), text


def _check_scopes(project_id: int | None, scopes: list[str]) -> None:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise Invalid(
            "The scopes are not usable.",
            details=[Detail("scopes", f"one or more of {', '.join(SCOPES)}; got {unknown}")],
        )
    if (project_id is None) != ("admin" in scopes):
        raise Invalid(
            "The scopes are not usable.",
            details=[Detail("scopes", "admin is for keys without a project, ingest and read for keys with one")],
        )


def list_keys(connection: Connection, project_id: int | None) -> list[ApiKey]:
    """Return the keys of a project, or of the administrators, revoked ones included."""
    return [ApiKey(**row) for row in connection.execute(Q.list_keys, {"project_id": project_id}).mappings()]


def revoke_key(connection: Connection, project_id: int | None, key_id: int) -> None:
    """Make a key invalid. Raises NotFound."""
    found = None
    if 0 < key_id < 2**31:
        found = connection.execute(Q.revoke_key, {"id": key_id, "project_id": project_id}).first()
    if found is None:
        raise NotFound(f"There is no key {key_id} here.")


def find_key(connection: Connection, key: str) -> ApiKey | None:
    """Return the valid key of this text, or None."""
    row = connection.execute(Q.find_key, {"key_hash": hash_key(key)}).mappings().first()
    return ApiKey(**row) if row else None


def find_keys(connection: Connection, keys: Sequence[str]) -> dict[str, ApiKey]:
    """Return the valid keys among several texts."""
    texts = {hash_key(key): key for key in keys}
    rows = connection.execute(Q.find_keys, {"key_hashes": list(texts)}).mappings()
    return {
        texts[bytes(row["key_hash"])]: ApiKey(**{name: row[name] for name in ApiKey.__struct_fields__}) for row in rows
    }


def list_valid_keys(connection: Connection) -> dict[bytes, ApiKey]:
    """Return all valid keys by the hash that `hash_key` makes of their texts."""
    return {
        bytes(row["key_hash"]): ApiKey(**{name: row[name] for name in ApiKey.__struct_fields__})
        for row in connection.execute(Q.list_valid_keys).mappings()
    }


def create_user(connection: Connection, email: str, password: str) -> User:
    """Store a login, or a new password for an existing one. Raises Invalid for a bad address or a short password."""
    email = email.strip().lower()
    if not (3 <= len(email) <= 254 and "@" in email[1:-1] and email.isprintable() and " " not in email):
        rule = Detail("email", "a mail address of at most 254 characters")
        raise Invalid("The address is not usable.", details=[rule])
    if not _PASSWORD_MIN <= len(password) <= 1024:
        raise Invalid(
            "The password is not usable.", details=[Detail("password", f"from {_PASSWORD_MIN} to 1024 characters")]
        )
    values = {"email": email, "password_hash": _hasher.hash(password)}
    return User(**connection.execute(Q.create_user, values).mappings().one())


# Verifying against this costs what a real check costs, so that unknown addresses can't be told from known ones.
_NOBODY = _hasher.hash(secrets.token_hex(16))


def check_password(connection: Connection, email: str, password: str) -> User | None:
    """Return the user whose address and password these are, or None; takes about 50 ms either way."""
    row = connection.execute(Q.find_user, {"email": email.strip().lower()[:254].replace("\0", "")}).mappings().first()
    try:
        _hasher.verify(row["password_hash"] if row else _NOBODY, password[:1024])
    except VerificationError:
        return None
    return User(**row) if row else None


def find_logins(connection: Connection, email: str) -> int | None:
    """Return the generation whose cookies are valid, or None for an unknown user."""
    row = connection.execute(Q.find_user, {"email": email}).mappings().first()
    return int(row["logins"]) if row else None


def find_logins_of(connection: Connection, emails: Sequence[str]) -> dict[str, int]:
    """Return the same of several users; those that are unknown are missing."""
    rows = connection.execute(Q.find_logins_of, {"emails": list(emails)})
    return {row.email: row.logins for row in rows}


def end_logins(connection: Connection, email: str) -> None:
    """Make every cookie of a user void, on all machines."""
    connection.execute(Q.end_logins, {"email": email})


def count_administrators(connection: Connection) -> int:
    """Return how many logins and administrator keys there are."""
    return int(connection.execute(Q.count_administrators).scalar_one())


def ensure_development_project(connection: Connection) -> None:
    """Make project 1 and its well-known key, so that a first try works without parameters."""
    connection.execute(Q.create_first_project, {"name": "My first project"})
    connection.execute(Q.move_project_sequence)
    if find_key(connection, DEVELOPMENT_KEY) is None and not list_keys(connection, 1):
        create_key(connection, 1, "development", ["ingest", "read"], DEVELOPMENT_KEY)


def get_secret(connection: Connection, name: str) -> bytes:
    """Return a secret of the service, made at the first call."""
    found = connection.execute(Q.get_secret, {"name": name}).scalar()
    if found is None:
        connection.execute(Q.offer_secret, {"name": name, "value": secrets.token_bytes(32)})
        found = connection.execute(Q.get_secret, {"name": name}).scalar_one()
    return bytes(found)
