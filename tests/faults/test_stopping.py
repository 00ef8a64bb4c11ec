"""A service that is told to stop, wholly or in parts, while events come in."""

import signal
from collections.abc import Callable

from tests.faults import storm
from tests.running import RunningService, wait_until


def _workers(service: RunningService) -> set[int]:
    return {process.pid for process in service.processes("web-worker")}


def _replace_workers(service: RunningService, tell: Callable[[], None]) -> None:
    """Return when none of the present web workers is left."""
    before = _workers(service)
    tell()
    wait_until(lambda: not before & _workers(service), 60)
    service.await_ready()


def test_what_was_acknowledged_is_stored_once_however_workers_end(service: RunningService) -> None:
    senders = storm.Senders(service.url)
    senders.start()
    try:
        senders.await_progress()
        before = _workers(service)  # they end by themselves after some requests
        wait_until(lambda: not before & _workers(service), 90)
        _replace_workers(service, lambda: [w.send_signal(signal.SIGTERM) for w in service.processes("web-worker")])
        senders.await_progress()
        _replace_workers(service, lambda: service.processes("web")[0].send_signal(signal.SIGHUP))
        senders.await_progress()
        background = service.processes("worker")[0]
        background.terminate()
        wait_until(lambda: background not in service.processes("worker"))
        senders.await_progress()
        assert service.stop() == 0
        service.start()
        senders.await_progress()
    finally:
        senders.stop()
    count = storm.count(service, senders, 0)
    assert count.acknowledged > 500
    assert (count.lost, count.doubled, count.unfolded, count.summary_difference) == (0, 0, 0, 0)
