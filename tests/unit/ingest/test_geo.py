"""Addresses to places."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import ConfigError
from pulse.ingest.geo import NOWHERE, Place, locate, use_database
from tests.unit.ingest.mmdb import write_mmdb

BERLIN = {
    "country": {"iso_code": "DE", "names": {"en": "Germany"}},
    "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin"}}],
    "city": {"names": {"de": "Berlin", "en": "Berlin"}},
}


@pytest.fixture
def built_in() -> Iterator[None]:
    use_database(None)
    yield
    use_database(None)


@pytest.fixture
def city_database(built_in: None, tmp_path: Path) -> Path:
    france = {"country": {"iso_code": "FR"}}
    records = {"8.8.8.0/24": BERLIN, "8.8.4.0/24": france, "1.1.1.0/24": "not a record", "10.0.0.0/8": BERLIN}
    path = write_mmdb(tmp_path / "city.mmdb", records)
    use_database(path)
    return path


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", " 8.8.8.8 "])
def test_built_in_data_knows_the_country(built_in: None, address: str) -> None:
    assert locate(address) == Place("US")


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "x" * 999],
)
def test_private_addresses_and_junk_are_nowhere(built_in: None, address: str) -> None:
    assert locate(address) == NOWHERE


@given(st.text())
def test_never_raises(text: str) -> None:
    assert isinstance(locate(text), Place)


def test_a_database_gives_region_and_city(city_database: Path) -> None:
    assert locate("8.8.8.8") == Place("DE", "Land Berlin", "Berlin")
    assert locate("::ffff:8.8.8.8") == Place("DE", "Land Berlin", "Berlin")


def test_a_database_with_less(city_database: Path) -> None:
    assert locate("8.8.4.4") == Place("FR")
    assert locate("9.9.9.9") == NOWHERE, "unknown to the database"
    assert locate("10.1.2.3") == NOWHERE, "private, whatever the database says"
    assert locate("1.1.1.1") == NOWHERE, "a record of another shape"
    assert locate("2001:4860:4860::8888") == NOWHERE, "an IPv6 address in an IPv4 database"


def test_a_switch_of_database_forgets_what_was_looked_up(city_database: Path) -> None:
    assert locate("8.8.8.8").country == "DE"
    use_database(None)
    assert locate("8.8.8.8").country == "US"


def test_a_file_that_is_no_database_is_named(built_in: None, tmp_path: Path) -> None:
    path = tmp_path / "junk.mmdb"
    path.write_bytes(b"junk" * 100)
    with pytest.raises(ConfigError, match="GEOIP_DATABASE.*junk.mmdb"):
        use_database(path)
    assert locate("8.8.8.8").country == "US"
