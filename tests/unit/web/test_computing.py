"""How many reports are computed at once, and how renewals wait for their turn."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from pulse.errors import Unavailable
from pulse.web import computing
from pulse.web.computing import Renewals, Slots
from tests.running import wait_until


def test_no_more_than_so_many_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(2, "too many")
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(slots.turn())
        monkeypatch.setattr(computing, "WAIT_S", 0.01)
        with pytest.raises(Unavailable, match="too many"), slots.turn():
            pass
        assert slots.is_idle()
    with slots.turn():
        pass


@pytest.mark.parametrize("is_called", [False, True])
def test_who_is_ended_while_waiting_takes_no_slot_away(monkeypatch: pytest.MonkeyPatch, is_called: bool) -> None:
    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if is_called:
                held.close()
            raise KeyboardInterrupt

    slots = Slots(1, "too many")
    with ExitStack() as held:
        held.enter_context(slots.turn())
        with monkeypatch.context() as patched:
            patched.setattr(computing.threading, "Event", Ended)
            with pytest.raises(KeyboardInterrupt), slots.turn():
                pass
        assert slots.is_idle()
    assert slots._free == 1
    with slots.turn():
        pass


def test_who_has_waited_longest_is_next() -> None:
    slots = Slots(1, "too many")
    order: list[int] = []

    def ask(number: int) -> None:
        with slots.turn():
            order.append(number)

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    with slots.turn():
        for number, thread in enumerate(asking, start=1):
            thread.start()
            wait_until(lambda number=number: len(slots._waiting) == number)  # type: ignore[misc]
    for thread in asking:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]
    with slots.turn():
        assert slots.is_idle()


def _step(name: str, began: list[str], go_on: threading.Event) -> Callable[[], None]:
    def run() -> None:
        began.append(name)
        assert go_on.wait(10)

    return run


def test_renewals_are_done_one_at_a_time_and_each_once() -> None:
    renewals = Renewals()
    began: list[str] = []
    steps = {name: threading.Event() for name in ("first", "second")}
    for name, go_on in steps.items():
        renewals.add(name, _step(name, began, go_on))
    renewals.add("first", lambda: began.append("again"))  # is under way
    renewals.add("second", lambda: began.append("again"))  # waits
    wait_until(lambda: began == ["first"])
    steps["first"].set()
    wait_until(lambda: began == ["first", "second"])
    steps["second"].set()
    wait_until(lambda: not renewals._wanted)
    renewals.add("first", _step("later", began, steps["first"]))
    wait_until(lambda: began == ["first", "second", "later"])


def test_one_that_fails_does_not_keep_others_from_being_renewed() -> None:
    renewals = Renewals()
    done = threading.Event()

    def fail() -> None:
        raise ValueError("not this one")

    renewals.add("first", fail)
    renewals.add("second", done.set)
    assert done.wait(10)


def test_a_renewal_lets_requests_go_first() -> None:
    slots = Slots(1, "too many")
    renewals = Renewals(slots, patience_s=60)
    order: list[str] = []

    def ask() -> None:
        with slots.turn():
            order.append("request")
            assert not renewals_done.is_set()

    renewals_done = threading.Event()
    with slots.turn():
        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: not slots.is_idle())
        renewals.add("key", lambda: (order.append("renewal"), renewals_done.set())[1])
    asking.join(10)
    assert renewals_done.wait(10)
    assert order == ["request", "renewal"]


def test_its_patience_ends() -> None:
    slots = Slots(1, "too many")
    done = threading.Event()
    with slots.turn():
        asking = threading.Thread(target=lambda: slots.turn().__enter__())
        asking.start()
        wait_until(lambda: not slots.is_idle())
        Renewals(slots, patience_s=0.0).add("key", done.set)
        assert done.wait(10)
    asking.join(10)
