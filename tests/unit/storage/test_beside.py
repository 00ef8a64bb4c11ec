"""What waits for the disk holds up no other greenlet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pulse.storage import beside

# The pipe's reader waits in the kernel for its writer, which is another greenlet: in one loop they would wait for ever.
SCRIPT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from pathlib import Path
from pulse.storage import beside
pipe = Path(sys.argv[1])
reader = gevent.spawn(beside.run, pipe.read_bytes)
gevent.sleep(0)
assert not reader.ready()
pipe.write_bytes(b"written meanwhile")
print(reader.get().decode())
try:
    beside.run(Path("/nowhere/at/all").read_bytes)
except FileNotFoundError as error:
    print(error.filename)
"""


def test_other_greenlets_go_on(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(pipe)], timeout=30, check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["written meanwhile", "/nowhere/at/all"]


def test_without_gevent_it_is_a_call() -> None:
    assert beside.run(int, "12", base=3) == 5
    with pytest.raises(ValueError, match="invalid literal"):
        beside.run(int, "x")
