"""Settings: one frozen dataclass, read from the environment once and validated together."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values

from pulse.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        value = text.strip().lower()
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\s*[0-9]{1,12}\s*", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _boolean(text: str) -> bool:
    value = text.strip().lower()
    if value not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return value in _TRUE


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        value = text.strip()
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(parts.netloc or parts.path)
        except ValueError:  # brackets that do not close
            usable = False
        if not usable:
            raise ValueError("a URL that starts with " + ", ".join(f"{scheme}://" for scheme in schemes))
        return value

    return parse


def _database_url(text: str) -> str:
    value = _url("postgresql", "postgres", "postgresql+psycopg2")(text)
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("a URL whose port is a number (postgresql://user:password@host:5432/name)") from None
    return "postgresql+psycopg2://" + value.split("://", 1)[1]


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("addresses or networks, separated by commas (10.0.0.0/8,::1)") from None


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError("the path of a readable file")
    return path


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in found):
        raise ValueError("mail addresses, separated by commas")
    return found


def _secret(text: str) -> str:
    if len(text) < 16:
        raise ValueError("at least 16 characters (`openssl rand -hex 32` makes one)")
    return text


def _text(text: str) -> str:
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]%-]{1,253}", text.strip()):
        raise ValueError("a host name or an address")
    return text.strip()


def _setting(variable: str, default: Any, parse: Callable[[str], Any], help: str, unit: str = "") -> Any:
    meta = {"variable": variable, "parse": parse, "help": help, "unit": unit}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of the service. Nothing else reads the environment."""

    env: str = _setting(
        "PULSE_ENV", "development", _one_of("development", "production", "test"),
        "`development`, `production` or `test`; production refuses to start without SECRET_KEY, DATABASE_URL and an"
        " administrator",
    )
    host: str = _setting("HOST", "127.0.0.1", _host, "address the service listens on")
    port: int = _setting("PORT", 3001, _integer(1, 65535), "port the service listens on")
    web_concurrency: int = _setting(
        "WEB_CONCURRENCY", os.cpu_count() or 1, _integer(1, 256), "gunicorn workers; default: the number of cores"
    )
    secret_key: str | None = _setting(
        "SECRET_KEY", None, _secret, "signs login cookies; development makes and keeps one of its own"
    )
    database_url: str | None = _setting(
        "DATABASE_URL", None, _database_url,
        "any PostgreSQL 15 or newer; unset: an embedded PostgreSQL in PULSE_DATA_DIR",
    )
    database_replica_url: str | None = _setting(
        "DATABASE_REPLICA_URL", None, _database_url,
        "reports read from here, and from the primary when it fails or lags",
    )
    database_pool_max: int = _setting(
        "DATABASE_POOL_MAX", 20, _integer(2, 1000), "connections each web process may hold", "connections"
    )
    database_pool_min: int = _setting(
        "DATABASE_POOL_MIN", 2, _integer(0, 1000), "connections each web process keeps open", "connections"
    )
    database_pool_acquire_timeout_ms: int = _setting(
        "DATABASE_POOL_ACQUIRE_TIMEOUT", 30000, _integer(1, 600000), "how long to wait for a connection", "ms"
    )
    database_pool_idle_timeout_ms: int = _setting(
        "DATABASE_POOL_IDLE_TIMEOUT", 10000, _integer(1, 86400000),
        "after how long an idle connection above the minimum is closed", "ms",
    )
    redis_url: str | None = _setting(
        "REDIS_URL", None, _url("redis", "rediss", "unix", "valkey", "valkeys", "redis+sentinel", "redis+cluster"),
        "shared cache (Redis or Valkey); unset, with REDIS_HOST unset too: an in-process cache",
    )
    redis_host: str | None = _setting("REDIS_HOST", None, _host, "host of the shared cache, instead of REDIS_URL")
    redis_port: int = _setting("REDIS_PORT", 6379, _integer(1, 65535), "its port")
    redis_password: str | None = _setting("REDIS_PASSWORD", None, _text, "its password")
    redis_db: int = _setting("REDIS_DB", 0, _integer(0, 15), "its database number")
    enable_query_monitoring: bool = _setting("ENABLE_QUERY_MONITORING", True, _boolean, "the query monitor")
    slow_query_threshold_ms: int = _setting(
        "SLOW_QUERY_THRESHOLD_MS", 100, _integer(1, 3600000),
        "slower queries are counted, kept and logged as slow", "ms",
    )
    data_dir: Path = _setting(
        "PULSE_DATA_DIR", Path("var"), lambda text: Path(text).expanduser(),
        "embedded database, spool, worker statistics",
    )
    retention_months: int = _setting(
        "RETENTION_MONTHS", 12, _integer(1, 1200), "months of raw events kept (summaries stay)", "months"
    )
    ingest_rate_limit: int = _setting(
        "INGEST_RATE_LIMIT", 0, _integer(0, 1_000_000),
        "events a second that one key may send, on each host; 0: as many as the service takes", "events/s",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "TRUSTED_PROXIES", (), _networks, "addresses whose `X-Forwarded-For` is believed"
    )
    geoip_database: Path | None = _setting(
        "GEOIP_DATABASE", None, _file, "an MMDB file for regions and cities; unset: built-in IP-to-country data"
    )
    alert_webhook_url: str | None = _setting(
        "ALERT_WEBHOOK_URL", None, _url("http", "https"), "where alerts are posted as JSON"
    )
    smtp_url: str | None = _setting("SMTP_URL", None, _url("smtp", "smtps"), "mail server for alerts")
    alert_email_to: tuple[str, ...] = _setting("ALERT_EMAIL_TO", (), _addresses, "who gets alerts by mail")
    log_level: str = _setting(
        "LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "least serious log line shown"
    )
    log_format: str = _setting("LOG_FORMAT", "text", _one_of("text", "json"), "`text`, or `json` for machines")

    @property
    def is_development(self) -> bool:
        """Whether shortcuts for one's own machine apply: the test key, no login on loopback, the demo site."""
        return self.env == "development"


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from `environ`, by default the process's environment over the `.env` file.

    An empty value counts as unset. Raises ConfigError, once, for all bad variables together.
    """
    if environ is None:
        environ = {**{k: v for k, v in dotenv_values(".env").items() if v is not None}, **os.environ}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for spec in fields(Config):
        variable = spec.metadata["variable"]
        text = environ.get(variable, "")
        if text.strip() == "":
            continue
        try:
            values[spec.name] = spec.metadata["parse"](text)
        except ValueError as error:
            shown = "a value that is not shown" if _is_secret(variable) else repr(text)
            problems.append(f"{variable} holds {shown}; it may hold {error}")
    problems += _check_together(values)
    if problems:
        raise ConfigError("Settings that can't be used:\n" + "\n".join(f"  - {line}" for line in problems))
    if values.get("redis_url") is None and values.get("redis_host"):
        values["redis_url"] = _compose_redis_url(values)
    return Config(**values)


def _is_secret(variable: str) -> bool:
    return variable == "SECRET_KEY" or "PASSWORD" in variable or variable.endswith("_URL")


def _compose_redis_url(values: dict[str, Any]) -> str:
    password = f":{quote(values['redis_password'], safe='')}@" if values.get("redis_password") else ""
    host = values["redis_host"]
    host = f"[{host}]" if ":" in host else host
    return f"redis://{password}{host}:{values.get('redis_port', 6379)}/{values.get('redis_db', 0)}"


def _check_together(values: dict[str, Any]) -> list[str]:
    problems = []
    low, high = values.get("database_pool_min", 2), values.get("database_pool_max", 20)
    if low > high:
        problems.append(f"DATABASE_POOL_MIN holds {low}; it may hold at most DATABASE_POOL_MAX, which is {high}")
    if values.get("alert_email_to") and not values.get("smtp_url"):
        problems.append("ALERT_EMAIL_TO is set; it needs SMTP_URL, which is unset")
    if values.get("env") == "production":
        for name, variable in (("secret_key", "SECRET_KEY"), ("database_url", "DATABASE_URL")):
            if values.get(name) is None:
                problems.append(f"{variable} is unset; PULSE_ENV=production needs it")
    return problems
