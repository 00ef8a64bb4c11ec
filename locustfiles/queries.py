"""Reports: people reading dashboards while events keep coming.

    locust -f locustfiles/queries.py --headless --processes 2

BASE_URL, API_KEY, PROJECT_ID; LOAD_READERS (people at once, 60), LOAD_FEED (servers that send a batch a second
meanwhile, 2), LOAD_QUERY_RAMP_S, LOAD_QUERY_S.
"""

import random
from datetime import UTC, datetime, timedelta

from locust import FastHttpUser, between, constant_throughput, task
from measure import BASE_URL, HEADERS, PROJECT_ID, Measurement, Stage, StagedShape, setting

from pulse.load.bodies import Bodies

READERS = max(round(setting("LOAD_READERS", 60)), 1)
FEEDERS = round(setting("LOAD_FEED", 2))
STAGES = tuple(
    stage
    for stage in (
        Stage("ramp", setting("LOAD_QUERY_RAMP_S", 5), READERS + FEEDERS),
        Stage("steady", setting("LOAD_QUERY_S", 40), READERS + FEEDERS, jumps=True),
    )
    if stage.duration_s > 0
)
PROJECT = f"/api/v1/projects/{PROJECT_ID}"
# Days back from today and how often they are looked at; None is the default range.
RANGES = ((None, 40), (7, 25), (1, 12), (30, 8), (90, 10), (365, 5))
measurement = Measurement("queries", STAGES)
bodies = Bodies(singles=1, batches=50)


def choose_range() -> str:
    """Return the query of a range: most people look at the same few, one in ten picks days of their own."""
    today = datetime.now(UTC).date()
    if random.random() < 0.1:
        end = today - timedelta(days=random.randrange(30))
        return f"?startDate={end - timedelta(days=random.randrange(1, 60))}&endDate={end}"
    days = random.choices([days for days, _ in RANGES], [weight for _, weight in RANGES])[0]
    return "" if days is None else f"?startDate={today - timedelta(days=days - 1)}&endDate={today}"


class Shape(StagedShape):
    """Ramp, steady."""

    stages = STAGES


class Reader(FastHttpUser):
    """A person with a dashboard open: looks at ranges, lets the live figures refresh, sometimes reads single events."""

    host = BASE_URL
    default_headers = HEADERS
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Open the dashboard."""
        self.query, self.etags = "", dict[str, str]()

    @task(5)
    def read_report(self) -> None:
        """Look at a range, half of the time the one looked at before; browsers send the ETag they hold."""
        if random.random() < 0.5:
            self.query = choose_range()
        path = f"{PROJECT}/analytics{self.query}"
        held = self.etags.get(path)
        response = self.client.get(
            path, name="/analytics", headers={"If-None-Match": held} if held else {}, context={"kind": "historical"}
        )
        if response.status_code == 200 and response.headers.get("ETag"):
            self.etags[path] = response.headers["ETag"]

    @task(4)
    def read_live(self) -> None:
        """Refresh the live figures."""
        self.client.get(f"{PROJECT}/realtime", name="/realtime", context={"kind": "realtime"})

    @task(1)
    def read_events(self) -> None:
        """Read the newest events."""
        self.client.get(f"{PROJECT}/events?limit=50", name="/events", context={"kind": "historical"})


class Feeder(FastHttpUser):
    """A server that keeps sending batches, so that the reports have something new to tell."""

    abstract = FEEDERS == 0
    fixed_count = FEEDERS
    host = BASE_URL
    default_headers = HEADERS
    wait_time = constant_throughput(1)

    @task
    def send_batch(self) -> None:
        """Send a batch."""
        body = bodies.batch()
        context = {"kind": "feed", "events": body.events, "counted": body.counted}
        self.client.post("/api/v1/track/batch", data=body.data, context=context)
