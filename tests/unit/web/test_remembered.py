"""What is remembered of the database is brought up to date by itself, and outlasts the database."""

import threading
from collections.abc import Sequence

import pytest

from pulse.errors import NotFound, Unavailable
from pulse.web import remembered
from pulse.web.remembered import Refresher, Remembered
from tests.running import wait_until


class Table:
    """A table of a database that can be away; notes who asked for what."""

    def __init__(self, **rows: str) -> None:
        self.rows = rows
        self.is_away = False
        self.asked: list[str] = []
        self.asked_together: list[list[str]] = []

    def load(self, key: str) -> str:
        self.asked.append(key)
        return self._read([key])[key]

    def load_all(self, keys: Sequence[str]) -> dict[str, str]:
        self.asked_together.append(sorted(keys))
        return self._read([key for key in keys if key in self.rows])

    def _read(self, keys: list[str]) -> dict[str, str]:
        if self.is_away:
            raise Unavailable("The database is away.")
        if missing := set(keys) - self.rows.keys():
            raise NotFound(f"{missing}")
        return {key: self.rows[key] for key in keys}


@pytest.fixture
def table() -> Table:
    return Table(a="1", b="2")


@pytest.fixture
def memory(table: Table) -> Remembered[str, str]:
    found = Remembered(table.load, table.load_all)
    assert [found.get(key) for key in "aba"] == ["1", "2", "1"]
    assert table.asked == ["a", "b"]
    return found


def test_what_is_in_use_is_asked_for_together(table: Table, memory: Remembered[str, str]) -> None:
    table.rows["a"] = "changed"
    assert memory.refresh()
    assert (memory.get("a"), memory.get("b")) == ("changed", "2")
    assert (table.asked, table.asked_together) == (["a", "b"], [["a", "b"]])


def test_many_who_ask_for_the_same_at_first_are_one_question(table: Table) -> None:
    begun, go_on, found = threading.Event(), threading.Event(), []

    def load_slowly(key: str) -> str:
        begun.set()
        go_on.wait(30)
        return table.load(key)

    memory = Remembered(load_slowly, table.load_all)
    askers = [threading.Thread(target=lambda: found.append(memory.get("a"))) for _ in range(5)]
    for asker in askers:
        asker.start()
        begun.wait(30)
    go_on.set()
    for asker in askers:
        asker.join()
    assert (found, table.asked) == (["1"] * 5, ["a"])


def test_what_is_gone_is_asked_for_by_the_next_request(table: Table, memory: Remembered[str, str]) -> None:
    del table.rows["a"]
    memory.refresh()
    with pytest.raises(NotFound):
        memory.get("a")
    assert memory.get("b") == "2"


def test_while_the_database_is_away_no_request_asks_it(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBER_S", 0.0)
    memory = Remembered(table.load, table.load_all)
    memory.get("a")
    table.is_away = True
    monkeypatch.setattr(remembered, "REMEMBER_S", 3600.0)
    memory.refresh()  # which makes it last for another REMEMBER_S
    assert (memory.get("a"), table.asked) == ("1", ["a"])


def test_while_it_is_being_asked_for_the_old_value_stands_in(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "REMEMBER_S", 0.0)
    begun, go_on = threading.Event(), threading.Event()

    def load_slowly(keys: Sequence[str]) -> dict[str, str]:
        begun.set()
        go_on.wait(30)
        return table.load_all(keys)

    memory = Remembered(table.load, load_slowly)
    memory.get("a")
    refreshing = threading.Thread(target=memory.refresh)
    refreshing.start()
    begun.wait(30)
    assert (memory.get("a"), table.asked) == ("1", ["a"])
    assert (memory.get("b"), table.asked) == ("2", ["a", "b"])
    go_on.set()
    refreshing.join()


def test_what_was_on_its_way_when_all_was_forgotten_is_not_remembered(table: Table) -> None:
    generation = [b"1"]

    def load_then_forget(keys: Sequence[str]) -> dict[str, str]:
        found = table.load_all(keys)
        table.rows["a"], generation[0] = "changed", b"2"
        return found

    memory = Remembered(table.load, load_then_forget, lambda: generation[0])
    memory.get("a")
    memory.refresh()
    assert memory.get("a") == "changed"


def test_what_nobody_uses_is_let_go(
    table: Table, memory: Remembered[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "IN_USE_S", 0.0)
    assert not memory.refresh()
    assert table.asked_together == []


def test_of_too_many_those_used_last_are_asked_for(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REFRESHED", 1)
    memory = Remembered(table.load, table.load_all)
    for key in "aba":
        memory.get(key)
    memory.refresh()
    assert table.asked_together == [["a"]]


def test_the_refresher_begins_with_the_first_use_and_rests_after_the_last(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "REFRESH_EVERY_S", 0.01)
    memory = Remembered(table.load, table.load_all)
    stopping = threading.Event()
    before = threading.active_count()
    Refresher([memory], stopping)
    assert threading.active_count() == before
    memory.get("a")
    table.rows["a"] = "changed"
    wait_until(lambda: memory.get("a") == "changed")
    assert table.asked == ["a"]
    monkeypatch.setattr(remembered, "IN_USE_S", 0.0)
    wait_until(lambda: threading.active_count() == before)
    stopping.set()
