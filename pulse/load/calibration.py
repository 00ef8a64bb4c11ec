"""How fast this machine is just now: figures divided by it can be compared between slower and faster moments."""

import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time

from pulse.load.machine import PYTHON, ROOT, python_environment

DURATION_S = 1.0
_PARTS = 5
_DOCUMENT = {"events": [{"url": f"https://example.com/{n}", "n": n, "text": "x" * 40} for n in range(20)]}


def calibrate(duration_s: float = DURATION_S) -> float:
    """Return how many fixed pieces of work all cores together do in a second."""
    command = [PYTHON, "-m", "pulse.load.calibration", str(duration_s)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, env=python_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    return round(sum(float(worker.communicate()[0]) for worker in workers), 1)


def measure_rate(duration_s: float) -> float:
    """Return how many pieces one core does in a second, the median of five parts of the time.

    A piece is what a request costs in kind: JSON both ways, a hash, a message there and back between two sockets.
    """
    near, far = socket.socketpair()
    with near, far:
        rates = []
        for _ in range(_PARTS):
            pieces, started = 0, time.perf_counter()
            while (elapsed_s := time.perf_counter() - started) < duration_s / _PARTS:
                text = json.dumps(_DOCUMENT).encode()
                near.sendall(hashlib.sha256(text).digest())
                far.sendall(far.recv(64))
                near.recv(64)
                json.loads(text)
                pieces += 1
            rates.append(pieces / elapsed_s)
    return statistics.median(rates)


if __name__ == "__main__":
    print(measure_rate(float(sys.argv[1])))
