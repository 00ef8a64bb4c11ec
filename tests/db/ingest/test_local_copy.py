"""What a node keeps of the database on its own disk."""

import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from pulse.config import Config
from pulse.ingest.local_copy import FILE_NAME, Copy, Keeper, LocalCopy, ask_within, changes_board
from pulse.ingest.visitor import load_identity
from pulse.storage import projects

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass
class Node:
    """A node's file, who writes it, and who reads it."""

    path: Path
    keeper: Keeper
    copy: LocalCopy

    def read(self) -> Copy:
        found = self.copy.read()
        assert found is not None
        return found


@pytest.fixture
def node(config: Config, engine: Engine) -> Node:
    with engine.begin() as connection:
        projects.ensure_development_project(connection)
        load_identity(connection)
    board = changes_board(config.data_dir)
    keeper = Keeper(engine, LocalCopy(config.data_dir, engine.url), board)
    return Node(config.data_dir / FILE_NAME, keeper, LocalCopy(config.data_dir, engine.url))


def test_it_holds_what_taking_events_needs(node: Node, engine: Engine) -> None:
    node.keeper.keep()
    found = node.read()
    with engine.begin() as connection:
        assert found.find_key("test_api_key") == projects.find_key(connection, "test_api_key")
        assert found.projects == {1: projects.get_project(connection, 1)}
        assert found.cookie_secret == projects.get_secret(connection, projects.COOKIES)
        identity = load_identity(connection)
    visit = (1, None, "8.8.8.8", "Firefox", NOW.date())
    assert found.identity().visitor(*visit) == identity.visitor(*visit)
    assert found.identity().named_visitor(1, "u-1") == identity.named_visitor(1, "u-1")
    assert found.identity().salt(NOW.date() + DAY) == identity.salt(NOW.date() + DAY)
    assert found.find_key("unknown") is None and found.administrators == 0


def test_nobody_else_can_read_it_and_no_key_is_in_it(node: Node) -> None:
    node.keeper.keep()
    assert stat.S_IMODE(node.path.stat().st_mode) == 0o600
    assert b"test_api_key" not in node.path.read_bytes()
    assert [path.name for path in node.path.parent.glob("local-copy*")] == [FILE_NAME]


def test_a_change_made_here_is_in_it_at_once_and_nothing_is_written_without_one(
    node: Node, engine: Engine, config: Config
) -> None:
    board = changes_board(config.data_dir)
    node.keeper.keep()
    before = node.path.stat().st_ino
    board.bump()
    node.keeper.keep()
    assert node.path.stat().st_ino == before

    with engine.begin() as connection:
        made, text = projects.create_key(connection, 1, "other", ["ingest"])
        projects.revoke_key(connection, 1, node.read().find_key("test_api_key").id)  # type: ignore[union-attr]
    node.keeper.keep()
    assert node.read().find_key(text) is None, "another node's change may take some seconds"
    board.bump()
    node.keeper.keep()
    assert node.read().find_key(text) == made
    assert node.read().find_key("test_api_key") is None


def test_a_copy_of_weeks_ago_is_none(node: Node, engine: Engine) -> None:
    with engine.begin() as connection:
        for days, is_good in ((14, True), (15, False)):
            node.copy.write(msgspec.msgpack.encode(node.copy.read_from(connection, NOW - days * DAY)))
            assert (node.copy.read() is not None) == is_good


def test_a_file_that_was_removed_comes_back(node: Node, config: Config) -> None:
    node.keeper.keep()
    node.path.unlink()
    assert node.copy.read() is None
    changes_board(config.data_dir).bump()
    node.keeper.keep()
    assert node.read().find_key("test_api_key")


def test_salts_leave_it_when_they_leave_the_database(node: Node, engine: Engine) -> None:
    with engine.begin() as connection:
        assert NOW.date() in node.copy.read_from(connection, NOW + DAY).salts
        assert NOW.date() not in node.copy.read_from(connection, NOW + 2 * DAY).salts


@pytest.mark.parametrize(
    "change",
    [
        lambda body: msgspec.msgpack.encode({**msgspec.msgpack.decode(body), "database": b"x" * 32}),
        lambda body: msgspec.msgpack.encode({**msgspec.msgpack.decode(body), "schema": 1}),
        lambda body: msgspec.msgpack.encode({"of": "another release"}),
        lambda body: body.replace(b"development", b"developmen\xff"),
    ],
)
def test_a_copy_that_is_not_of_this_database_and_release_is_none(node: Node, change: Callable[[bytes], bytes]) -> None:
    node.keeper.keep()
    body = node.path.read_bytes()[4:]
    node.copy.write(change(body))
    assert node.copy.read() is None
    node.copy.write(body)
    assert node.copy.read() is not None


@given(st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_copy_is_none(node: Node, data: st.DataObject) -> None:
    if not node.path.exists():
        node.keeper.keep()
        node.path.with_suffix(".whole").write_bytes(node.path.read_bytes())
    whole = node.path.with_suffix(".whole").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), whole[:place]):
        node.path.unlink()
        node.path.write_bytes(damaged)
        assert LocalCopy(node.path.parent, node.keeper._engine.url).read() is None


def test_what_cannot_be_written_is_said_once(node: Node, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    node.path.mkdir()
    (node.path / "full").touch()
    board = changes_board(config.data_dir)
    for _ in range(3):
        board.bump()
        node.keeper.keep()
    assert [record.levelname for record in caplog.records if record.name == "pulse.ingest"] == ["ERROR"]
    (node.path / "full").unlink()
    node.path.rmdir()
    board.bump()
    node.keeper.keep()
    assert node.read().find_key("test_api_key")


def test_who_asks_does_not_make_it_another_database_but_where_does(node: Node, engine: Engine) -> None:
    node.keeper.keep()
    folder, url = node.path.parent, engine.url
    asks = [
        url.set(username="other", password="secret"),
        url.update_query_dict({"user": "other", "password": "secret", "connect_timeout": "1"}),
        url.set(port=5432),
    ]
    assert [LocalCopy(folder, same).read() for same in asks] == [node.read()] * 3
    for other in (
        url.set(database="other"),
        url.update_query_dict({"host": "/elsewhere"}),
        url.update_query_dict({"port": "5433"}),
    ):
        assert LocalCopy(folder, other).read() is None


def test_an_answer_is_waited_for_as_long_as_it_may_take() -> None:
    assert ask_within(lambda: 1, 60) == ask_within(lambda: 1, None) == 1
    with pytest.raises(ZeroDivisionError):
        ask_within(lambda: 1 / 0, 60)
    never = threading.Event()
    with pytest.raises(TimeoutError):
        ask_within(never.wait, 0.01)
    never.set()
