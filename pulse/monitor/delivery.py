"""Sends alerts to a webhook and by mail, from the background worker, again and again until they are taken."""

import json
import logging
import smtplib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from time import time
from urllib.parse import unquote, urlsplit

from pulse.config import Config
from pulse.monitor import alerts, files, shared
from pulse.monitor.alerts import Alert, Delivery, State

log = logging.getLogger("pulse.alerts")

TIMEOUT_S = 10.0
MAX_ATTEMPTS = 10
FIRST_RETRY_S = 10.0
LONGEST_RETRY_S = 1800.0
# While one process sends a message, no other takes it up.
LEASE_S = 60.0


def channels(config: Config) -> tuple[str, ...]:
    """Where alerts go besides the log and the dashboard."""
    found = ["webhook"] if config.alert_webhook_url else []
    return tuple(found + (["mail"] if config.smtp_url and config.alert_email_to else []))


def run(config: Config) -> State:
    """Evaluate the alerts and send what is due; for the leading background worker, every few seconds."""
    folder = files.folder_of(config.data_dir)
    alerts.note_leading(folder)
    state = alerts.check(folder, shared.collect(), channels(config))
    deliver_due(folder, config)
    return state


def deliver_due(folder: Path, config: Config) -> int:
    """Send every message that is due; return how many were taken."""
    taken = 0
    for alert, delivery in _claim(folder):
        error = None
        try:
            send(config, alert, delivery)
            taken += 1
        except (OSError, smtplib.SMTPException, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"[:200]
            log.warning("an alert could not be sent (%s, attempt %d): %s", delivery.channel, delivery.attempts, error)
        _settle(folder, alert, delivery, error)
    return taken


def _claim(folder: Path) -> list[tuple[Alert, Delivery]]:
    claimed: list[tuple[Alert, Delivery]] = []
    if not any(_waiting(alert) for alert in alerts.load(folder).alerts):
        return claimed

    def edit(state: State) -> None:
        now = time()
        for alert in reversed(state.alerts):
            for delivery in _waiting(alert):
                if delivery.next_at <= now:
                    delivery.attempts += 1
                    delivery.next_at = now + LEASE_S
                    claimed.append((alert, delivery))

    alerts.change(folder, edit)
    return claimed


def _waiting(alert: Alert) -> list[Delivery]:
    """The next message to each receiver: an all-clear that came before its alert would leave the alert standing."""
    found: dict[str, Delivery] = {}
    for delivery in alert.deliveries:
        if not delivery.given_up:
            found.setdefault(delivery.channel, delivery)
    return list(found.values())


def _settle(folder: Path, alert: Alert, delivery: Delivery, error: str | None) -> None:
    def edit(state: State) -> None:
        for found in state.alerts:
            if found.id != alert.id:
                continue
            for waiting in [d for d in found.deliveries if (d.channel, d.kind) == (delivery.channel, delivery.kind)]:
                if error is None:
                    found.deliveries.remove(waiting)
                else:
                    waiting.error, waiting.given_up = error, waiting.attempts >= MAX_ATTEMPTS
                    waiting.next_at = time() + min(FIRST_RETRY_S * 2 ** (waiting.attempts - 1), LONGEST_RETRY_S)

    alerts.change(folder, edit)


def send(config: Config, alert: Alert, delivery: Delivery) -> None:
    """Send one message. Raises OSError or SMTPException when the receiver does not take it."""
    if delivery.channel == "webhook" and config.alert_webhook_url:
        _post(config.alert_webhook_url, alert, delivery.kind)
    elif delivery.channel == "mail" and config.smtp_url and config.alert_email_to:
        _mail(config.smtp_url, config.alert_email_to, alert, delivery.kind)


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def _post(url: str, alert: Alert, kind: str) -> None:
    content = {
        "id": alert.id,
        "event": kind,
        "rule": alert.rule,
        "title": alert.title,
        "condition": alert.condition,
        "value": round(alert.value, 2),
        "startedAt": _iso(alert.started_at),
        "endedAt": _iso(alert.ended_at) if kind == "ended" else None,
        "text": _subject(alert, kind),
    }
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json", "User-Agent": "Analytics-Pulse"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        answer.read(1024)


def _subject(alert: Alert, kind: str) -> str:
    return f"Analytics-Pulse {'alert' if kind == 'started' else 'all clear'}: {alert.message}"


def _mail(smtp_url: str, receivers: tuple[str, ...], alert: Alert, kind: str) -> None:
    parts = urlsplit(smtp_url)
    message = EmailMessage()
    message["Subject"] = _subject(alert, kind)
    sender = unquote(parts.username) if parts.username and "@" in unquote(parts.username) else receivers[0]
    message["From"], message["To"] = sender, ", ".join(receivers)
    message.set_content(f"{alert.message}\nStarted {_iso(alert.started_at)}, worst {alert.worst:.2f}%.\n")
    with connect_mail(smtp_url) as server:
        server.send_message(message)


@contextmanager
def connect_mail(smtp_url: str) -> Iterator[smtplib.SMTP]:
    """A session with the mail server, logged in. Raises OSError or SMTPException."""
    parts = urlsplit(smtp_url)
    kind_of_server = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    server = kind_of_server(parts.hostname or "localhost", parts.port or 0, timeout=TIMEOUT_S)
    try:
        server.ehlo()
        if parts.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls()
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        yield server
        # The mail was taken: a failing farewell must not send it again.
        with suppress(OSError, smtplib.SMTPException):
            server.quit()
    finally:
        server.close()
