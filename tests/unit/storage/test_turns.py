"""Long work lets other requests have their turn between its steps."""

import subprocess
import sys
import textwrap

import pytest

from pulse.storage import turns


def test_a_request_that_arrives_during_a_step_has_its_turn_after_it() -> None:
    program = """
        from gevent import monkey; monkey.patch_all()
        import os, socket
        import gevent
        from pulse.storage import turns
        from pulse.storage.turns import yield_to_requests

        turns.SLICE_S = 0.0
        near, far = socket.socketpair()
        taken = []
        gevent.spawn(lambda: [taken.append(far.recv(1)) for _ in range(20)])
        yield_to_requests()
        for step in range(1, 21):
            os.write(near.fileno(), b"x")
            yield_to_requests()
            assert len(taken) == step, (len(taken), step)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_steps_that_are_over_at_once_do_not_give_way_each(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [100.0]
    monkeypatch.setattr(turns.time, "sleep", slept.append)
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(turns, "_resumed_at", 0.0)
    for _ in range(100):
        turns.yield_to_requests()
        now[0] += turns.SLICE_S / 10
    assert len(slept) == 2 * 10
