"""Projects and their API keys over HTTP."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response
from msgspec import Meta

from pulse.errors import Detail, Invalid
from pulse.storage import projects as store
from pulse.storage.projects import ApiKey, Domain, Name, Project
from pulse.web.access import identify, require
from pulse.web.http import Api, answer_json
from pulse.web.service import service

blueprint = Blueprint("projects", __name__)
api = Api(blueprint, "Projects")

Zone = Annotated[str, Meta(min_length=1, max_length=64)]


class NewProject(msgspec.Struct, rename="camel"):
    """A project to make."""

    name: Name
    timezone: Zone = "UTC"
    domain: Domain | None = None


class ProjectChange(msgspec.Struct, rename="camel"):
    """What to change; absent fields stay."""

    name: Name | None = None
    timezone: Zone | None = None
    domain: Domain | None | msgspec.UnsetType = msgspec.UNSET


class NewKey(msgspec.Struct, rename="camel"):
    """A key to make: `ingest` may be published in a page, `read` shows the project's reports."""

    name: Name
    scopes: Annotated[list[str], Meta(min_length=1, max_length=3)]


class KeyMade(msgspec.Struct, frozen=True, rename="camel"):
    """A new key; `key` is shown this once."""

    key: str
    api_key: ApiKey


class Deleted(msgspec.Struct, rename="camel"):
    """What was removed."""

    id: int
    deleted: bool = True


@api("GET", "/projects", "The projects this key or login may read", scope=None, answer=list[Project])
def list_projects() -> list[Project]:
    """List all for an administrator, the key's own project otherwise."""
    caller = require("read", identify().project_id)
    with service().database.begin() as connection:
        if caller.project_id is not None:
            return [store.get_project(connection, caller.project_id)]
        return store.list_projects(connection)


@api("POST", "/projects", "Make a project", scope="admin", body=NewProject, answer=Project, status=201)
def create_project(body: NewProject) -> Project:
    """Store a project; its keys are made separately."""
    with service().database.begin() as connection:
        return store.create_project(connection, body.name, body.timezone, body.domain)


@api("GET", "/projects/<int:project_id>", "One project", scope="read", answer=Project)
def get_project(project_id: int) -> Project:
    """Return a project."""
    with service().database.begin() as connection:
        return store.get_project(connection, project_id)


@api("PUT", "/projects/<int:project_id>", "Change a project", scope="admin", body=ProjectChange, answer=Project)
def update_project(project_id: int, body: ProjectChange) -> Project:
    """Change name, domain or time zone."""
    with service().database.begin() as connection:
        changed = store.update_project(
            connection, project_id, name=body.name, timezone=body.timezone, domain=body.domain
        )
    service().forget()
    return changed


@api("DELETE", "/projects/<int:project_id>", "Delete a project with all its data", scope="admin", answer=Deleted)
def delete_project(project_id: int) -> Deleted:
    """Remove the project and its keys at once; the background worker removes the data."""
    with service().database.begin() as connection:
        store.delete_project(connection, project_id)
    service().forget()
    return Deleted(project_id)


@api("GET", "/projects/<int:project_id>/api-keys", "The project's keys", scope="admin", answer=list[ApiKey])
def list_keys(project_id: int) -> list[ApiKey]:
    """List keys without their text, revoked ones included."""
    with service().database.begin() as connection:
        store.get_project(connection, project_id)
        return store.list_keys(connection, project_id)


@api(
    "POST", "/projects/<int:project_id>/api-keys", "Make a key",
    scope="admin", body=NewKey, answer=KeyMade, status=201,
)  # fmt: skip
def create_key(project_id: int, body: NewKey) -> Response:
    """Make a key for the project; its text is in this answer only."""
    if "admin" in body.scopes:
        raise Invalid("A project's key can't have the admin scope.", details=[Detail("scopes", "ingest, read or both")])
    with service().database.begin() as connection:
        key, text = store.create_key(connection, project_id, body.name, body.scopes)
    service().forget()
    response = answer_json(KeyMade(text, key), 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@api("DELETE", "/projects/<int:project_id>/api-keys/<int:key_id>", "Revoke a key", scope="admin", answer=Deleted)
def revoke_key(project_id: int, key_id: int) -> Deleted:
    """Revoke a key: at once on this machine, within two seconds on others."""
    with service().database.begin() as connection:
        store.get_project(connection, project_id)
        store.revoke_key(connection, project_id, key_id)
    service().forget()
    return Deleted(key_id)
