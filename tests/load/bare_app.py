"""The least a Flask application can do with an event: read it and answer 204. A limit for the service's own rate."""

from flask import Flask, Response, request

app = Flask("bare")


@app.post("/api/v1/track/event")
def track_event() -> Response:
    """Read the body, keep nothing."""
    request.get_data(cache=False)
    return Response(status=204)


@app.get("/health/ready")
def ready() -> Response:
    """Say that it is up."""
    return Response(status=200)
