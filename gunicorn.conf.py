"""Gunicorn's settings: gevent workers, each with its own pool, writer and statistics."""

# Everything below must see patched sockets, locks and sleeps.
from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

from pulse.config import load_config  # noqa: E402
from pulse.errors import ConfigError  # noqa: E402
from pulse.storage import patience  # noqa: E402
from pulse.web import accepting, gunicorn_answers  # noqa: E402

patience.install()
try:
    _config = load_config()
except ConfigError as error:
    sys.exit(str(error))

bind = f"[{_config.host}]:{_config.port}" if ":" in _config.host else f"{_config.host}:{_config.port}"
workers = _config.web_concurrency
worker_class = "pulse.web.gunicorn_worker.Worker"
worker_connections = accepting.allow_connections(2000)
backlog = 2048
keepalive = 75  # longer than load balancers keep theirs (60 s), so that they close first
timeout = 60
graceful_timeout = 20
max_requests = 0
http_parser = "auto"  # gunicorn_h1c, in C, where it is installed: it comes as source and needs a compiler
limit_request_line = 8190
limit_request_fields = 64
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "pulse"
forwarded_allow_ips = ""  # TRUSTED_PROXIES decides, in the application


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker its place among those who share the connections."""
    worker.pulse_place = accepting.tally.enter()


def child_exit(server: Any, worker: Any) -> None:
    """Give the place to another one, however the worker ended."""
    accepting.tally.leave(worker.pulse_place)


def post_fork(server: Any, worker: Any) -> None:
    """Share connections evenly; answer with one write, and no HTML error page."""
    accepting.install(worker.pulse_place)
    gunicorn_answers.install()


def post_worker_init(worker: Any) -> None:
    """Take what the application made at its start out of the collector's rounds: they block the event loop (20 ms)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def worker_exit(server: Any, worker: Any) -> None:
    """Let the last group reach PostgreSQL before the process goes."""
    app = getattr(worker, "wsgi", None)
    parts = getattr(app, "extensions", {}).get("pulse")
    if parts is not None:
        parts.writer.close()
