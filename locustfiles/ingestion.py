"""Ingestion: browsers that send single events and servers that send batches; ramp, steady load, spike.

    locust -f locustfiles/ingestion.py --headless --processes 2

BASE_URL, API_KEY; LOAD_RATE (events a second, 10,000), LOAD_RAMP_S, LOAD_STEADY_S, LOAD_SPIKE_S, LOAD_SPIKE (times the
steady load). A tenth of the events comes one by one, the rest in batches of a hundred.
"""

import math
import random
import time

import gevent
from locust import FastHttpUser, task
from measure import BASE_URL, HEADERS, Measurement, Stage, StagedShape, setting

from pulse.load.bodies import BATCH_EVENTS, Bodies

TRACKER_EVENTS_PER_S = 10.0
BATCHES_PER_S = 1.0
SINGLE_SHARE = 0.1
# Users keep their pace but never catch up; this much more is offered, so that the rate asked for is reached.
OFFERED_OVER = 1.03

RATE = setting("LOAD_RATE", 10_000)
TRACKERS = max(round(RATE * OFFERED_OVER * SINGLE_SHARE / TRACKER_EVENTS_PER_S), 1)
BACKENDS = max(round(RATE * OFFERED_OVER * (1 - SINGLE_SHARE) / BATCH_EVENTS / BATCHES_PER_S), 1)
USERS = TRACKERS + BACKENDS
STAGES = tuple(
    stage
    for stage in (
        Stage("ramp", setting("LOAD_RAMP_S", 10), USERS),
        Stage("steady", setting("LOAD_STEADY_S", 40), USERS, jumps=True),
        Stage("spike", setting("LOAD_SPIKE_S", 10), round(USERS * setting("LOAD_SPIKE", 1.5)), jumps=True),
    )
    if stage.duration_s > 0
)
measurement = Measurement("ingestion", STAGES)
bodies = Bodies()


class Shape(StagedShape):
    """Ramp, steady, spike."""

    stages = STAGES


class Sender(FastHttpUser):
    """Somebody who sends events at a pace, each beginning at a moment of its own."""

    abstract = True
    host = BASE_URL
    default_headers = HEADERS
    network_timeout = 30.0
    connection_timeout = 10.0
    pace_s = 1.0

    def on_start(self) -> None:
        """Wait a random part of the pace: all at once would be a spike a second."""
        wait_s = random.random() * self.pace_s
        self.due_at = time.perf_counter() + wait_s
        gevent.sleep(wait_s)

    def wait_time(self) -> float:
        """Return the seconds until the next moment of the user's own beat; beats that have passed are lost.

        Counted from the last request instead, as `constant_throughput` does, all who once waited for the same stall
        would send together from then on: against a server that answers at once, batches took 13 ms (p50).
        """
        now = time.perf_counter()
        self.due_at += max(math.ceil((now - self.due_at) / self.pace_s), 1) * self.pace_s
        return max(self.due_at - now, 0.0)


class Tracker(Sender):
    """A page with the tracker: single events."""

    weight = TRACKERS
    pace_s = 1 / TRACKER_EVENTS_PER_S

    @task
    def send_event(self) -> None:
        """Send one event."""
        body = bodies.single()
        context = {"kind": "single", "events": body.events, "counted": body.counted}
        self.client.post("/api/v1/track/event", data=body.data, context=context)


class Backend(Sender):
    """A server that sends what it gathered: batches of a hundred."""

    weight = BACKENDS
    pace_s = 1 / BATCHES_PER_S

    @task
    def send_batch(self) -> None:
        """Send a batch."""
        body = bodies.batch()
        context = {"kind": "batch", "events": body.events, "counted": body.counted}
        self.client.post("/api/v1/track/batch", data=body.data, context=context)
