"""Which cache a URL builds."""

from typing import Any

import pytest
import redis
from flask import Flask
from flask_caching import Cache

from pulse.cache.address import flask_caching_settings
from pulse.cache.limits import Limits


def _build(url: str) -> Any:
    app, extension = Flask("test"), Cache(with_jinja2_ext=False)
    extension.init_app(app, flask_caching_settings(url, Limits()))
    return app.extensions["cache"][extension]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:p%40ss@cache.example:6380/3", {"host": "cache.example", "port": 6380, "password": "p@ss", "db": 3}),
        ("valkey://cache.example", {"host": "cache.example", "db": 0}),
        ("rediss://user:secret@cache.example/1", {"username": "user", "password": "secret", "db": 1}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
    ],
)
def test_one_server(url: str, expected: dict[str, Any]) -> None:
    pool = _build(url)._write_client.connection_pool
    assert expected.items() <= pool.connection_kwargs.items()
    assert pool.connection_kwargs["socket_timeout"] == pool.connection_kwargs["socket_connect_timeout"] == 0.25
    assert issubclass(pool.connection_class, redis.SSLConnection) == url.startswith("rediss")


def test_sentinel() -> None:
    pool = _build(
        "redis+sentinel://user:secret@s1.example:26380,s2.example/mymaster/4?sentinel_password=other"
    )._write_client.connection_pool
    wanted = {"username": "user", "password": "secret", "db": 4, "socket_timeout": 0.25}
    assert wanted.items() <= pool.connection_kwargs.items()
    assert pool.service_name == "mymaster"
    sentinels = [found.connection_pool.connection_kwargs for found in pool.sentinel_manager.sentinels]
    assert [(found["host"], found["port"]) for found in sentinels] == [("s1.example", 26380), ("s2.example", 26379)]
    assert {(found["password"], found["socket_timeout"]) for found in sentinels} == {("other", 0.25)}


def test_cluster() -> None:
    settings = flask_caching_settings("rediss+cluster://:secret@c1.example:7000,c2.example", Limits())
    assert settings["CACHE_TYPE"] == "RedisClusterCache"
    assert settings["CACHE_REDIS_CLUSTER"] == "c1.example:7000,c2.example:6379"
    assert settings["CACHE_REDIS_PASSWORD"] == "secret"
    assert settings["CACHE_OPTIONS"]["ssl"] is True


@pytest.mark.parametrize(
    "url", ["http://x", "redis", "redis+other://x", "redis+sentinel://h:1", "redis+sentinel://h:1/m/x", "redis+cluster://"]
)
def test_a_url_that_can_not_be_read_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        flask_caching_settings(url, Limits())
