"""Checks of this machine: settings, disk, spool, processes, Redis, the GeoIP file, and where alerts go."""

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from smtplib import SMTPException
from urllib.parse import urlsplit

from pulse.cache.service import inspect_redis
from pulse.cache.shared import FAILURES
from pulse.config import Config
from pulse.errors import ConfigError
from pulse.ingest import geo
from pulse.ingest.spool import Spool
from pulse.monitor import delivery, files
from pulse.upkeep.finding import Finding, advice, ok, wrong

LOW_DISK_BYTES, LOW_DISK_PART = 2 * 2**30, 0.1
GEOIP_OLD_DAYS = 365
SPOOL_OLD_S = 60.0
PUBLISHED_S = 30.0
_TIMEOUT_S = 5.0
_REDIS_FAILURES: tuple[type[Exception], ...] = (*FAILURES, ValueError)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def check_settings(config: Config) -> Iterator[Finding]:
    """What the settings allow, and should not."""
    if config.is_development and config.host not in _LOOPBACK:
        yield wrong("settings", f"PULSE_ENV is development and HOST {config.host}: others can reach it.",
                    "PULSE_ENV=production, or HOST=127.0.0.1")  # fmt: skip
    if config.secret_key is not None and len(set(config.secret_key)) < 8:
        yield wrong("settings", "SECRET_KEY repeats a few characters: logins can be forged by who guesses it.",
                    "SECRET_KEY=$(openssl rand -hex 32)")  # fmt: skip
    elif config.secret_key is not None or not config.is_development:
        yield ok("settings", "They can be used, and SECRET_KEY is no easy guess.")
    if config.geoip_database is None:
        return
    try:
        with closing(geo.open_file(config.geoip_database)) as found:
            age_days = (datetime.now(UTC) - datetime.fromtimestamp(found.metadata().build_epoch, UTC)).days
    except ConfigError as error:
        yield wrong("GeoIP", f"{error}.", "Download it again, or unset GEOIP_DATABASE.")
        return
    if age_days > GEOIP_OLD_DAYS:
        yield advice("GeoIP", f"The file is {age_days} days old; addresses move.", "Download a newer one.")
    else:
        yield ok("GeoIP", f"The file is {age_days} days old.")


def check_disk(config: Config) -> Iterator[Finding]:
    """Room, and the right to write, in PULSE_DATA_DIR."""
    folder = config.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        usage = shutil.disk_usage(folder)
    except OSError as error:
        yield wrong("disk", f"PULSE_DATA_DIR ({folder}) can't be written: {error.strerror}.",
                    "Give the service's user that folder.")  # fmt: skip
        return
    if usage.free < LOW_DISK_BYTES or usage.free < LOW_DISK_PART * usage.total:
        yield wrong("disk", f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GB are free under {folder}.",
                    "Make room, or lower RETENTION_MONTHS.")  # fmt: skip
    else:
        yield ok("disk", f"{usage.free / 2**30:.1f} GB are free.")


def check_spool(config: Config) -> Iterator[Finding]:
    """Batches that wait for PostgreSQL, and those set aside."""
    spool = Spool(config.data_dir / "spool")
    waiting, damaged = spool.pending(), sorted(spool.folder.glob("*.bad"))
    oldest_at = min((path.stat().st_mtime for path in waiting), default=time.time())
    if time.time() - oldest_at > SPOOL_OLD_S:
        yield wrong(
            "spool", f"{len(waiting)} batches wait, the oldest for {time.time() - oldest_at:.0f} s.",
            "They are stored when PostgreSQL is there and a background worker leads on this machine; see its log.",
        )  # fmt: skip
    else:
        yield ok("spool", f"{len(waiting)} batches wait.")
    if damaged:
        yield wrong("spool", f"{len(damaged)} damaged files are set aside: {damaged[0].name}, …",
                    f"Their events are not stored. Check the disk; keep or delete {spool.folder}/*.bad.")  # fmt: skip


def check_processes(config: Config) -> Iterator[Finding]:
    """The web processes of this machine, by the figures they publish."""
    folder = files.folder_of(config.data_dir)
    if not folder.is_dir():
        yield wrong("web processes", "None has ever run on this data folder.", "pulse serve")
        return
    stats = files.read_service(folder, files.current_generation(folder))
    web = [p for p in stats.processes if p.role == "web" and stats.at - p.published_at < PUBLISHED_S]
    if web:
        yield ok("web processes", f"{len(web)} of {config.web_concurrency} are up.")
    else:
        yield wrong("web processes", "None is up.", "pulse serve")


def check_redis(config: Config) -> Iterator[Finding]:
    """Whether the shared cache answers, takes writes, and makes room by itself."""
    if config.redis_url is None:
        return
    try:
        nodes = inspect_redis(config.redis_url)
    except _REDIS_FAILURES as error:
        yield wrong("Redis", f"It can't be used: {error}. Each process goes on with its own memory.", "REDIS_URL")
        return
    for max_bytes, policy in nodes:
        if max_bytes == 0:
            yield advice("Redis", "It has no limit of memory.", 
                         "CONFIG SET maxmemory 256mb, with maxmemory-policy allkeys-lru")  # fmt: skip
        elif policy == "noeviction":
            yield wrong("Redis", "maxmemory-policy is noeviction: once full, it takes no new value.",
                        "CONFIG SET maxmemory-policy allkeys-lru")  # fmt: skip
        else:
            yield ok("Redis", f"It answers, with {max_bytes // 2**20} MB and {policy}.")


def check_network(config: Config) -> Iterator[Finding]:
    """Whether the receivers of alerts can be reached; nothing is posted or mailed."""
    if config.alert_webhook_url:
        parts = urlsplit(config.alert_webhook_url)
        place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        try:
            with socket.create_connection(place, _TIMEOUT_S):
                yield ok("webhook", f"{place[0]} can be reached.")
        except OSError as error:
            yield wrong("webhook", f"{place[0]}:{place[1]} can't be reached: {error}", "ALERT_WEBHOOK_URL")
    if config.smtp_url:
        try:
            with delivery.connect_mail(config.smtp_url):
                yield ok("mail", "The server takes the login." if urlsplit(config.smtp_url).username else "It answers.")
        except (OSError, SMTPException) as error:
            yield wrong("mail", f"The server can't be used: {error}", "SMTP_URL")
