"""Settings: read once, judged together, and never shown where they are secret."""

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulse.cli import main
from pulse.config import Config, load_config
from pulse.errors import ConfigError

SECRET = "a-secret-of-enough-characters"
DATABASE = "postgresql://pulse:hunter2-hunter2@db/pulse"


def refuse(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(environ)
    return str(caught.value)


def test_nothing_set_gives_the_defaults() -> None:
    assert load_config({}) == Config()


def test_an_empty_value_counts_as_unset() -> None:
    assert load_config({"PORT": "", "REDIS_URL": "  ", "TRUSTED_PROXIES": ""}) == Config()


def test_good_values_arrive_in_their_types(tmp_path: Path) -> None:
    mmdb = tmp_path / "city.mmdb"
    mmdb.write_bytes(b"x")
    config = load_config(
        {
            "PULSE_ENV": "Test",
            "PORT": "8080",
            "DATABASE_URL": "postgres://u:p@db/x",
            "ENABLE_QUERY_MONITORING": "off",
            "TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "GEOIP_DATABASE": str(mmdb),
            "SMTP_URL": "smtps://mail",
            "ALERT_EMAIL_TO": "a@x.org, b@x.org",
            "PULSE_DATA_DIR": str(tmp_path),
        }
    )
    assert (config.env, config.port, config.enable_query_monitoring) == ("test", 8080, False)
    assert config.database_url == "postgresql+psycopg2://u:p@db/x"
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (config.geoip_database, config.data_dir) == (mmdb, tmp_path)
    assert config.alert_email_to == ("a@x.org", "b@x.org")


BAD = {
    "PULSE_ENV": "staging",
    "PORT": "70000",
    "WEB_CONCURRENCY": "0",
    "SECRET_KEY": "short",
    "DATABASE_URL": "mysql://u:hunter2@db/x",
    "DATABASE_REPLICA_URL": "mysql://u:hunter2@replica/x",
    "DATABASE_POOL_MAX": "1",
    "DATABASE_POOL_MIN": "-1",
    "DATABASE_POOL_ACQUIRE_TIMEOUT": "30s",
    "DATABASE_POOL_IDLE_TIMEOUT": "1e3",
    "REDIS_URL": "http://:hunter2@cache",
    "REDIS_PORT": "port",
    "REDIS_DB": "16",
    "ENABLE_QUERY_MONITORING": "maybe",
    "SLOW_QUERY_THRESHOLD_MS": "0",
    "INGEST_RATE_LIMIT": "-1",
    "RETENTION_MONTHS": "²",
    "TRUSTED_PROXIES": "10.0.0.0/99",
    "GEOIP_DATABASE": "/no/such/file.mmdb",
    "ALERT_WEBHOOK_URL": "ftp://hook/hunter2",
    "SMTP_URL": "mail",
    "ALERT_EMAIL_TO": "nobody",
    "LOG_LEVEL": "loud",
    "LOG_FORMAT": "xml",
}
# Any text is a host, a password or a folder.
FREE = {"HOST", "REDIS_HOST", "REDIS_PASSWORD", "PULSE_DATA_DIR"}


def test_the_bad_values_above_are_of_every_setting_that_can_be_bad() -> None:
    assert set(BAD) | FREE == {spec.metadata["variable"] for spec in dataclasses.fields(Config)}


def test_one_message_names_every_bad_setting() -> None:
    message = refuse(**BAD)
    lines = [line for line in message.splitlines() if line.startswith("  - ")]
    assert {line[4:].split()[0] for line in lines} == set(BAD)
    assert all("it may hold" in line for line in lines)
    assert "PORT holds '70000'; it may hold a whole number from 1 to 65535" in message
    assert "PULSE_ENV holds 'staging'; it may hold one of development, production, test" in message


@pytest.mark.parametrize("variable", sorted(BAD))
def test_each_bad_value_is_refused_by_itself(variable: str) -> None:
    assert variable in refuse(**{variable: BAD[variable]})


def test_secrets_are_not_shown() -> None:
    message = refuse(**BAD)
    assert "hunter2" not in message and "'short'" not in message
    assert "SECRET_KEY holds a value that is not shown" in message


@pytest.mark.parametrize(
    ("url", "rule"),
    [("postgresql://u:hunter2@db:port/x", "port is a number"), ("postgresql://u:hunter2@[db/x", "a URL that")],
)
def test_a_url_that_can_not_be_taken_apart_is_refused(url: str, rule: str) -> None:
    message = refuse(DATABASE_URL=url)
    assert rule in message and "hunter2" not in message


@pytest.mark.parametrize("environ", [{"POOL": "x"}, {"DATABASE_POOL_MIN": "4", "DATABASE_POOL_MAX": "4"}])
def test_what_is_no_contradiction_is_taken(environ: dict[str, str]) -> None:
    load_config(environ)


def test_a_minimum_above_the_maximum_is_refused_even_against_a_default() -> None:
    assert "at most DATABASE_POOL_MAX, which is 20" in refuse(DATABASE_POOL_MIN="21")
    assert "DATABASE_POOL_MIN holds 5" in refuse(DATABASE_POOL_MIN="5", DATABASE_POOL_MAX="4")


def test_mail_needs_a_mail_server() -> None:
    assert "SMTP_URL" in refuse(ALERT_EMAIL_TO="a@x.org")


def test_production_names_all_that_it_lacks() -> None:
    message = refuse(PULSE_ENV="production")
    assert "SECRET_KEY is unset" in message and "DATABASE_URL is unset" in message
    assert "DATABASE_URL" not in refuse(PULSE_ENV="production", DATABASE_URL=DATABASE)
    complete = load_config({"PULSE_ENV": "production", "SECRET_KEY": SECRET, "DATABASE_URL": DATABASE})
    assert complete.env == "production" and not complete.is_development


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "cache"}, "redis://cache:6379/0"),
        ({"REDIS_HOST": "cache", "REDIS_PORT": "7000", "REDIS_DB": "3"}, "redis://cache:7000/3"),
        ({"REDIS_HOST": "cache", "REDIS_PASSWORD": "p@ss/w:rd"}, "redis://:p%40ss%2Fw%3Ard@cache:6379/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "cache", "REDIS_URL": "rediss://other:1/2"}, "rediss://other:1/2"),
        ({"REDIS_PORT": "7000", "REDIS_PASSWORD": "x"}, None),
    ],
)
def test_the_parts_of_the_redis_address_are_put_together(environ: dict[str, str], url: str | None) -> None:
    assert load_config(environ).redis_url == url


def test_the_process_environment_stands_over_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('PORT=4000\nLOG_LEVEL="debug"\nHOST\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "5000")
    for variable in ("LOG_LEVEL", "HOST"):
        monkeypatch.delenv(variable, raising=False)
    config = load_config()
    assert (config.port, config.log_level, config.host) == (5000, "debug", "127.0.0.1")


def test_a_bad_value_in_the_env_file_is_refused_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_FORMAT=xml\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOG_FORMAT", raising=False)
    with pytest.raises(ConfigError, match="LOG_FORMAT holds 'xml'; it may hold one of text, json"):
        load_config()


def test_serve_names_a_geoip_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "geo.mmdb").write_bytes(b"no database")
    monkeypatch.setenv("GEOIP_DATABASE", str(tmp_path / "geo.mmdb"))
    monkeypatch.setenv("PULSE_DATA_DIR", str(tmp_path / "var"))
    answer = CliRunner().invoke(main, ["serve"])
    assert answer.exit_code == 1
    assert "GEOIP_DATABASE" in answer.output and "geo.mmdb" in answer.output
    assert not (tmp_path / "var").exists(), "it got further than it should"
