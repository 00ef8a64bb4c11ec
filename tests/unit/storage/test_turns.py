"""Long work lets other requests have their turn between its steps."""

import subprocess
import sys
import textwrap


def test_a_request_that_arrives_during_a_step_has_its_turn_after_it() -> None:
    program = """
        from gevent import monkey; monkey.patch_all()
        import os, socket
        import gevent
        from pulse.storage.turns import yield_to_requests

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
