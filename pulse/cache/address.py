"""A Redis URL as Flask-Caching's settings."""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from pulse.cache.limits import Limits

ALIASES = {"valkey": "redis", "valkeys": "rediss"}


def flask_caching_settings(url: str, limits: Limits) -> dict[str, Any]:
    """The settings that make Flask-Caching build the cache a URL names.

    `redis://`, `rediss://` (TLS), `unix://`, the same with `valkey`; `redis+sentinel://user:password@host:port,
    host:port/service/db?sentinel_password=…` and `redis+cluster://user:password@host:port,host:port`, both also with
    `rediss`.

    Raises: ValueError for a URL that is none of these.
    """
    scheme, separator, rest = url.partition("://")
    base, plus, kind = scheme.partition("+")
    base = ALIASES.get(base, base)
    if not separator or base not in ("redis", "rediss", "unix") or kind not in ("", "sentinel", "cluster"):
        raise ValueError("REDIS_URL must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    options = _connection_options(limits)
    if not plus:
        # One fresh connection where the pooled one turns out closed (a restarted server, an idle limit); a server
        # that does not answer is not asked twice.
        options["retry"] = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        return {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": f"{base}://{rest}", "CACHE_OPTIONS": options}
    parts = urlsplit(f"{base}://{rest}")
    hosts = _hosts(parts.netloc.rpartition("@")[2], 26379 if kind == "sentinel" else 6379)
    credentials = parts.netloc.rpartition("@")[0]
    username, _, password = (unquote(text) for text in credentials.partition(":"))
    if username:
        options["username"] = username
    if base == "rediss":
        options["ssl"] = True
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    options |= {name: query[name] for name in ("ssl_ca_certs", "ssl_cert_reqs") if name in query}
    if kind == "cluster":
        return _cluster(hosts, password, options)
    return _sentinel(hosts, password, options, parts.path, query)


def _connection_options(limits: Limits) -> dict[str, Any]:
    return {
        "socket_timeout": limits.socket_timeout_s,
        "socket_connect_timeout": limits.socket_timeout_s,
        "health_check_interval": 0,
        "max_connections": limits.redis_connections,
        # RESP 2 connects without the two extra round trips that RESP 3's handshake takes.
        "protocol": 2,
        "client_name": "pulse",
    }


def _hosts(text: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for item in text.split(","):
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", item.strip())
        if not found:
            raise ValueError(f"REDIS_URL names a host that can't be read: {item!r}; it takes host:port,host:port")
        hosts.append((found[1].strip("[]"), int(found[2] or default_port)))
    return hosts


def _cluster(hosts: list[tuple[str, int]], password: str, options: dict[str, Any]) -> dict[str, Any]:
    if any(":" in host for host, _port in hosts):
        raise ValueError("REDIS_URL for a cluster takes host names or IPv4 addresses")  # Flask-Caching splits at colons
    # Without it redis-py tries ten more times, each for as long as the socket's timeout.
    options["retry"] = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return {
        "CACHE_TYPE": "RedisClusterCache",
        "CACHE_REDIS_CLUSTER": ",".join(f"{host}:{port}" for host, port in hosts),
        "CACHE_REDIS_PASSWORD": password or None,
        "CACHE_OPTIONS": options,
    }


def _sentinel(
    hosts: list[tuple[str, int]], password: str, options: dict[str, Any], path: str, query: dict[str, str]
) -> dict[str, Any]:
    service, _, database = path.strip("/").partition("/")
    if not service or not (database or "0").isdigit():
        raise ValueError("REDIS_URL for Sentinel ends in the service's name and a database: …/mymaster/0")
    options["retry"] = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    # Flask-Caching hands these, without the prefix, to the connections to the sentinels themselves.
    shared = ("socket_timeout", "socket_connect_timeout", "retry", "protocol", "ssl", "ssl_ca_certs", "ssl_cert_reqs")
    options |= {f"sentinel_{name}": options[name] for name in shared if name in options}
    for name in ("sentinel_username", "sentinel_password"):
        if name in query:
            options[name] = query[name]
    settings = {
        "CACHE_TYPE": "RedisSentinelCache",
        "CACHE_REDIS_SENTINELS": hosts,
        "CACHE_REDIS_SENTINEL_MASTER": service,
        "CACHE_REDIS_PASSWORD": password or None,
        "CACHE_REDIS_DB": int(database or 0),
        "CACHE_OPTIONS": options,
    }
    if "sentinel_password" in query:
        settings["CACHE_REDIS_SENTINEL_PASSWORD"] = options.pop("sentinel_password")
    return settings
