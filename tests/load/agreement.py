"""Do the service's own figures agree with those of k6, which measures from outside? `python -m tests.load.agreement`.

Starts a service of its own, sends events at a moderate rate (the machine must not be saturated: a generator that is
short of processor time measures its own waiting), a share of them made to fail: half with an unknown key (401), half
asking for a report whose table is gone (500). Then the performance API is read at once, over the same requests.

Prints both sides with their ratio and exits 1 where one of rate, error rates and p99 is off by more than a tenth.
"""

import json
import sys
from contextlib import closing
from typing import Any, NamedTuple

import click
import psycopg2
from rich.console import Console
from rich.table import Table

from pulse.load.client import Client
from pulse.load.machine import describe_machine
from pulse.load.service import own_service
from pulse.storage import embedded
from tests.load.bench_ingest import run_k6

WITHIN = 0.10
WARM_UP = {"WARMUP_S": 0, "STEADY_S": 5, "SPIKE_S": 0}
BROKEN_PATH = "/api/v1/projects/1/goals"
BROKEN_TABLE = "goals"
console = Console(highlight=False, width=110)


class Line(NamedTuple):
    """One figure: what k6 saw, what the service says, and whether they have to agree."""

    name: str
    k6: float
    service: float
    judged: bool

    @property
    def ratio(self) -> float:
        """The service's figure as a part of k6's; nought of nought is 1."""
        return self.service / self.k6 if self.k6 else float(self.service == 0)

    @property
    def agrees(self) -> bool:
        """Whether they are within a tenth of each other."""
        return abs(self.ratio - 1) <= WITHIN


@click.command(help=__doc__)
@click.option("--rate", default=3_000, show_default=True, help="Events a second.")
@click.option("--share", default=0.1, show_default=True, help="The part of them that is sent one by one.")
@click.option("--failing", default=0.05, show_default=True, help="The share of single requests that is made to fail.")
@click.option("--seconds", default=120, show_default=True, help="How long; at most 280, the service shows 5 minutes.")
@click.option("--runs", default=1, show_default=True, help="How often.")
@click.option("--workers", default="2", show_default=True, help="WEB_CONCURRENCY of the service.")
def main(rate: int, share: float, failing: float, seconds: int, runs: int, workers: str) -> None:
    machine = describe_machine()
    console.print(f"{machine.identity}, Python {machine.python}, load {machine.load_average:g}")
    console.print(f"{rate:,} events/s, {share:.0%} one by one, {failing:.0%} of those made to fail, {seconds} s")
    settings = {"RATE": rate, "SHARE": share, "FAILING": failing, "BROKEN": BROKEN_PATH, **WARM_UP}
    agreed = True
    for _ in range(runs):
        lines = measure({**settings, "STEADY_S": seconds}, workers)
        show(lines)
        agreed = agreed and all(line.agrees for line in lines if line.judged)
    sys.exit(0 if agreed else 1)


def measure(settings: dict[str, Any], workers: str) -> list[Line]:
    """Return the figures of one run on a service of its own."""
    with own_service({"WEB_CONCURRENCY": workers}) as (url, data_dir):
        server = embedded.locate(data_dir)
        with closing(psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")) as session:
            session.autocommit = True
            session.cursor().execute(f"ALTER TABLE {BROKEN_TABLE} RENAME TO {BROKEN_TABLE}_away")
        run_k6(url, {**settings, **WARM_UP})
        client = Client(url, "")
        client.post("/api/v1/performance/reset", b"")
        seen = run_k6(url, settings)
        said = json.loads(client.get("/api/v1/performance").body)["data"]
        client.close()
    return compare(seen, said)


def compare(seen: dict[str, Any], said: dict[str, Any]) -> list[Line]:
    """Put k6's figures beside the `data` of GET /performance."""
    latency, overall = said["latency"], said["latency"]["overall"]
    board = {target["id"]: target["fiveMinutes"]["value"] for target in said["targets"]}
    requests = seen["requests"]
    return [
        Line("requests", requests, overall["requests"], True),
        Line("requests a second", seen["requestsPerSecond"], overall["requestsPerSecond"], True),
        Line("5xx, % of requests", 100 * seen["answers5xx"] / requests, number(overall["errorRate"]), True),
        Line(
            "4xx, % of requests", 100 * (seen["errors"] - seen["answers5xx"]) / requests,
            100 * overall["clientErrors"] / overall["requests"], True,
        ),
        *_times("all requests", seen["all"], overall),
        *_times("single events", seen["single"], latency["groups"]["single"]),
        *_times("batches", seen["batch"], latency["groups"]["batch"]),
        Line("target board: single event p99, ms", seen["single"]["p99Ms"], board["ingest.single.p99"], True),
        Line("target board: batch p99, ms", seen["batch"]["p99Ms"], board["ingest.batch.p99"], True),
    ]  # fmt: skip


def _times(name: str, seen: dict[str, Any], said: dict[str, Any]) -> list[Line]:
    parts = ("p50", "p95", "p99")
    return [Line(f"{name} {part}, ms", seen[f"{part}Ms"], number(said[part]), part == "p99") for part in parts]


def number(text: str) -> float:
    """The number at the start of `45.23ms` or `1.84%`."""
    return float(text.rstrip("ms%"))


def show(lines: list[Line]) -> None:
    """Print both sides."""
    table = Table("figure", *(f"[right]{head}[/]" for head in ("k6", "service", "service / k6")), "")
    for line in lines:
        word = ("[green]agrees[/]" if line.agrees else "[bold red]differs[/]") if line.judged else ""
        table.add_row(line.name, f"{line.k6:,.2f}", f"{line.service:,.2f}", f"{line.ratio:.3f}", word)
    console.print(table)


if __name__ == "__main__":
    main()
