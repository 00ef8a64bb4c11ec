"""Projects, keys and logins as they are stored."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from pulse.errors import Conflict, Invalid, NotFound
from pulse.storage import projects

HUGE = [0, -1, 2**31, 2**63, 10**30]


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A transaction on the test's database."""
    with engine.begin() as opened:
        yield opened


def test_a_project_is_made_and_found(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop", "Europe/Berlin", "shop.example")
    assert projects.get_project(connection, made.id) == made
    assert (made.name, made.timezone, made.domain) == ("Shop", "Europe/Berlin", "shop.example")
    assert made.created_at.tzinfo is not None
    assert projects.list_projects(connection) == [made]


def test_an_unknown_time_zone_is_refused_by_name(connection: Connection) -> None:
    cases = ["Mars/Olympus", "europe/berlin", "", "../../etc/passwd", "UTC\0", "x" * 5000]
    for zone in cases:
        with pytest.raises(Invalid) as caught:
            projects.create_project(connection, "Shop", zone)
        (detail,) = caught.value.details
        assert detail.field == "timezone" and len(detail.message) < 200


def test_every_zone_of_the_database_is_taken(connection: Connection) -> None:
    cases = ["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]
    for zone in cases:
        assert projects.create_project(connection, "Shop", zone).timezone == zone


def test_a_change_keeps_what_is_not_given(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop", "Europe/Berlin", "shop.example")
    assert projects.update_project(connection, made.id, name="Store").domain == "shop.example"
    changed = projects.update_project(connection, made.id, domain=None, timezone="UTC")
    assert (changed.name, changed.domain, changed.timezone) == ("Store", None, "UTC")
    with pytest.raises(Invalid):
        projects.update_project(connection, made.id, timezone="Nowhere")


@pytest.mark.parametrize("number", HUGE)
def test_a_number_that_no_row_can_have_is_not_found(connection: Connection, number: int) -> None:
    for use in (
        lambda: projects.get_project(connection, number),
        lambda: projects.update_project(connection, number, name="x"),
        lambda: projects.delete_project(connection, number),
        lambda: projects.create_key(connection, number, "x", ["read"]),
        lambda: projects.revoke_key(connection, None, number),
    ):
        with pytest.raises(NotFound):
            use()


def test_deleting_a_project_takes_its_keys_along(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop")
    _, key = projects.create_key(connection, made.id, "pages", ["ingest"])
    projects.delete_project(connection, made.id)
    assert projects.find_key(connection, key) is None
    with pytest.raises(NotFound):
        projects.get_project(connection, made.id)


def test_a_key_is_stored_hashed_and_shown_once(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop")
    key, secret = projects.create_key(connection, made.id, "pages", ["read", "ingest", "read"])
    assert key.scopes == ["ingest", "read"] and secret.startswith(key.key_prefix) and len(key.key_prefix) <= 10
    stored = connection.execute(text("SELECT k::text FROM api_keys k")).scalars().all()
    assert all(secret not in row for row in stored)
    assert projects.find_key(connection, secret) == key
    assert projects.list_keys(connection, made.id) == [key]
    assert projects.create_key(connection, made.id, "pages", ["read"])[1] != secret


def test_a_text_that_is_no_key_finds_none(connection: Connection) -> None:
    cases = ["", "pulse_", "\0", "\ud800", "é" * 50, "'; DROP TABLE api_keys; --"]
    for text_ in cases:
        assert projects.find_key(connection, text_) is None


def test_a_revoked_key_is_listed_but_not_found(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop")
    key, secret = projects.create_key(connection, made.id, "pages", ["ingest"])
    projects.revoke_key(connection, made.id, key.id)
    assert projects.find_key(connection, secret) is None
    (listed,) = projects.list_keys(connection, made.id)
    assert listed.revoked_at is not None
    projects.revoke_key(connection, made.id, key.id)
    assert projects.list_keys(connection, made.id) == [listed], "the first time counts"


def test_a_key_is_revoked_through_its_own_project_only(connection: Connection) -> None:
    mine, other = (projects.create_project(connection, name) for name in ("Mine", "Other"))
    key, secret = projects.create_key(connection, mine.id, "pages", ["ingest"])
    for wrong in (other.id, None):
        with pytest.raises(NotFound):
            projects.revoke_key(connection, wrong, key.id)
    assert projects.find_key(connection, secret) == key


@pytest.mark.parametrize(
    ("with_project", "scopes"), [(True, []), (True, ["write"]), (True, ["admin"]), (False, ["read"]), (False, [])]
)
def test_scopes_that_make_no_sense_are_refused(connection: Connection, with_project: bool, scopes: list[str]) -> None:
    project_id = projects.create_project(connection, "Shop").id if with_project else None
    with pytest.raises(Invalid) as caught:
        projects.create_key(connection, project_id, "x", scopes)
    assert caught.value.details[0].field == "scopes"


def test_a_text_can_be_a_key_only_once(connection: Connection) -> None:
    made = projects.create_project(connection, "Shop")
    projects.create_key(connection, made.id, "a", ["read"], "a-fixed-text")
    with pytest.raises(Conflict):
        projects.create_key(connection, made.id, "b", ["read"], "a-fixed-text")


def test_a_login_is_its_address_and_password(connection: Connection) -> None:
    made = projects.create_user(connection, " Ada@Example.org ", "correct horse")
    assert made.email == "ada@example.org" and made.password_hash.startswith("$argon2id$")
    assert projects.check_password(connection, "ADA@example.org", "correct horse") == made
    assert projects.check_password(connection, "ada@example.org", "wrong horse") is None
    assert projects.check_password(connection, "bob@example.org", "correct horse") is None
    assert projects.check_password(connection, "ada@example.org\0", "wrong") is None


def test_a_second_call_sets_a_new_password(connection: Connection) -> None:
    projects.create_user(connection, "ada@example.org", "correct horse")
    projects.create_user(connection, "ada@example.org", "battery staple")
    assert projects.check_password(connection, "ada@example.org", "correct horse") is None
    assert projects.check_password(connection, "ada@example.org", "battery staple") is not None
    assert projects.count_administrators(connection) == 1


def test_a_bad_login_is_refused_by_field(connection: Connection) -> None:
    cases = [
        ("ada", "correct horse", "email"),
        ("@example.org", "correct horse", "email"),
        ("ada@", "correct horse", "email"),
        ("a da@example.org", "correct horse", "email"),
        ("ada@example.org\0", "correct horse", "email"),
        ("a" * 250 + "@x.org", "correct horse", "email"),
        ("ada@example.org", "short", "password"),
        ("ada@example.org", "x" * 1025, "password"),
    ]
    for email, password, field in cases:
        with pytest.raises(Invalid) as caught:
            projects.create_user(connection, email, password)
        assert caught.value.details[0].field == field


def test_administrators_are_logins_and_valid_admin_keys(connection: Connection) -> None:
    assert projects.count_administrators(connection) == 0
    key, _ = projects.create_key(connection, None, "ops", ["admin"])
    assert projects.count_administrators(connection) == 1
    projects.revoke_key(connection, None, key.id)
    assert projects.count_administrators(connection) == 0


def test_the_development_project_is_made_once_and_never_again_after_its_key_is_revoked(connection: Connection) -> None:
    for _ in range(2):
        projects.ensure_development_project(connection)
    (project,) = projects.list_projects(connection)
    (key,) = projects.list_keys(connection, 1)
    assert project.id == 1 and key.scopes == ["ingest", "read"]
    assert projects.create_project(connection, "Next").id == 2
    projects.revoke_key(connection, 1, key.id)
    projects.ensure_development_project(connection)
    assert projects.find_key(connection, projects.DEVELOPMENT_KEY) is None


def test_a_secret_is_made_once(connection: Connection) -> None:
    first = projects.get_secret(connection, "cookies")
    assert len(first) >= 32
    assert projects.get_secret(connection, "cookies") == first
    assert projects.get_secret(connection, "other") != first
