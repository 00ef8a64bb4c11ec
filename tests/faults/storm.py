"""Kill parts of a loaded service with SIGKILL and count afterwards: nothing acknowledged lost, nothing doubled.

`python -m tests.faults.storm --rounds 4` kills each part, Valkey too, four times (24 kills) and prints the count.
"""

import argparse
import http.client
import json
import tempfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, create_engine, text

from tests.running import RunningService, wait_until
from tests.valkey import Server

PARTS = ("web-worker", "worker", "valkey", "postgres", "web", "supervisor")
HEADERS = {"X-API-Key": "test_api_key", "Content-Type": "application/json"}


@dataclass
class Senders:
    """Clients that send batches and repeat each, with the same ids, until it is acknowledged; one reads reports."""

    url: str
    count: int = 4
    acknowledged: set[str] = field(default_factory=set)
    repeats: int = 0
    reports: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to send."""
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(self.count)]
        self._threads.append(threading.Thread(target=self._read, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send the last batches until they are acknowledged, then end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a batch was never acknowledged"
        assert self.failures == []

    def await_progress(self, batches: int = 20) -> None:
        """Return when that many more batches have been acknowledged."""
        goal = len(self.acknowledged) + batches * 10
        wait_until(lambda: len(self.acknowledged) >= goal, 90)

    def _run(self, number: int) -> None:
        page = 0
        while not self._stop.is_set():
            ids = [str(uuid4()) for _ in range(10)]
            page += 1
            events = [
                {"type": "pageview", "url": f"https://e.com/{page % 50}", "event_id": chosen, "visitor_id": str(number)}
                for chosen in ids
            ]
            while not self._send(events):
                self.repeats += 1
                self._stop.wait(0.05)
            self.acknowledged.update(ids)

    def _send(self, events: list[dict[str, str]]) -> bool:
        body = json.dumps({"events": events}).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/track/batch", body, HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            self._judge(error)
            return False
        except (OSError, http.client.HTTPException):
            return False

    def _read(self) -> None:
        """Ask for reports that the cache may hold, so that it has its part in the load."""
        while not self._stop.wait(0.02):
            for report in ("analytics", "realtime"):
                request = urllib.request.Request(f"{self.url}/api/v1/projects/1/{report}", headers=HEADERS)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        self.reports += bool(answer.status == 200)
                except urllib.error.HTTPError as error:
                    self._judge(error)
                except (OSError, http.client.HTTPException):
                    continue

    def _judge(self, error: urllib.error.HTTPError) -> None:
        if error.code != 503 or not error.headers["Retry-After"]:
            self.failures.append(f"{error.code} {error.read()!r}")


@dataclass(frozen=True)
class Count:
    """What a storm left: ids acknowledged and missing, ids stored twice, and how far summaries are off."""

    kills: int
    acknowledged: int
    repeats: int
    lost: int
    doubled: int
    unfolded: int
    summary_difference: int


def run(folder: Path, rounds: int = 1, **settings: str) -> Count:
    """Run a service, kill each part `rounds` times under load, and count."""
    cache = Server(folder)
    cache.start()
    service = RunningService(folder / "var", REDIS_URL=cache.url, **settings)
    service.start()
    senders = Senders(service.url)
    try:
        senders.start()
        for _ in range(rounds):
            for part in PARTS:
                senders.await_progress()
                if part == "valkey":
                    _kill_cache(cache, service, senders)
                    continue
                service.kill(part)
                if part == "supervisor":
                    service.start()
                else:
                    service.await_ready()
        senders.await_progress()
        senders.stop()
        return count(service, senders, rounds * len(PARTS))
    finally:
        senders._stop.set()
        service.stop()
        cache.kill()


def _kill_cache(cache: Server, service: RunningService, senders: Senders) -> None:
    wait_until(service.has_shared_cache)
    cache.kill()
    wait_until(lambda: not service.has_shared_cache())
    senders.await_progress()
    reports = senders.reports
    wait_until(lambda: senders.reports > reports + 5)
    cache.start()
    wait_until(service.has_shared_cache)


def count(service: RunningService, senders: Senders, kills: int) -> Count:
    """Compare what was acknowledged with what is stored, once everything is stored and folded."""
    engine = create_engine(service.database_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        waiting = text("SELECT count(*) FROM ingest_batches WHERE folded_at IS NULL")
        spool = service.data_dir / "spool"
        wait_until(lambda: not list(spool.glob("*.batch")), 30)
        wait_until(lambda: connection.execute(waiting).scalar() == 0, 60)
        stored = Counter(str(i) for i in connection.execute(text("SELECT id FROM events")).scalars())
        difference = _compare_summaries(connection)
        unfolded = connection.execute(waiting).scalar_one()
    engine.dispose()
    return Count(
        kills, len(senders.acknowledged), senders.repeats, len(senders.acknowledged - set(stored)),
        sum(n - 1 for n in stored.values()), unfolded, difference,
    )  # fmt: skip


def _compare_summaries(connection: Connection) -> int:
    """Return how many pages' day summaries differ from a recount of the events."""
    return int(
        connection.execute(
            text(
                "SELECT count(*) FROM (SELECT path AS value, count(*) AS n FROM events GROUP BY path) counted"
                " FULL JOIN (SELECT value, sum(pageviews) AS n FROM summary_daily WHERE dimension = 'page'"
                " GROUP BY value) summed USING (value) WHERE counted.n IS DISTINCT FROM summed.n"
            )
        ).scalar_one()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    with tempfile.TemporaryDirectory(prefix="pulse-storm-") as name:
        Path(name).chmod(0o711)
        print(run(Path(name), parser.parse_args().rounds))
