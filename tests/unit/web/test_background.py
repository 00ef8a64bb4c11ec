"""Work beside requests runs once at a time, begins anew after its end, and not after a stop."""

import threading

import pytest

from pulse.web.background import Background
from tests.running import wait_until


def test_it_runs_once_at_a_time_and_again_after_its_end() -> None:
    begun, go_on, times = threading.Semaphore(0), threading.Semaphore(0), []

    def work() -> None:
        times.append(threading.current_thread())
        begun.release()
        go_on.acquire()

    background = Background("test", work, threading.Event())
    background.begin()
    assert begun.acquire(timeout=30)
    background.begin()
    assert len(times) == 1 and times[0].name == "test"
    go_on.release()
    times[0].join(30)
    background.begin()
    assert begun.acquire(timeout=30) and len(times) == 2
    go_on.release()
    times[1].join(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_is_an_end_too() -> None:
    threads: list[threading.Thread] = []

    def fail() -> None:
        threads.append(threading.current_thread())
        raise ValueError

    background = Background("test", fail, threading.Event())
    for number in (1, 2):
        background.begin()
        wait_until(lambda number=number: len(threads) == number)  # type: ignore[misc]
        threads[-1].join(30)
    assert threads[0] is not threads[1]


def test_nothing_begins_after_a_stop() -> None:
    stopping = threading.Event()
    stopping.set()
    before = threading.active_count()
    times: list[int] = []
    Background("test", lambda: times.append(1), stopping).begin()
    assert (times, threading.active_count()) == ([], before)
