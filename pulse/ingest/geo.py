"""Where an address is: the built-in IP-to-country data, or an MMDB file for regions and cities."""

import ipaddress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import iptocc
import maxminddb

from pulse.errors import ConfigError
from pulse.ingest.memo import Memo


class Place(NamedTuple):
    """A country (ISO 3166-1 alpha-2), and a region's and a city's English name; None where unknown."""

    country: str | None = None
    region: str | None = None
    city: str | None = None


NOWHERE = Place()

_NAME_LENGTH = 128
_ADDRESS_LENGTH = 64  # longer text is junk and not worth a place in the cache


class _Database(Protocol):
    def get(self, address: Any) -> Any: ...


_database: _Database | None = None


def open_file(path: Path) -> maxminddb.Reader:
    """Open an MMDB file. Raises ConfigError for one that can't be read or is none."""
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"GEOIP_DATABASE holds {str(path)!r}; it may hold the path of an MMDB file ({error})"
        ) from None


def use_database(path: Path | None) -> None:
    """Look addresses up in the MMDB file at `path` from now on, or in the built-in data when it is None.

    Raises ConfigError for a file that is no MMDB database.
    """
    global _database
    _database = None if path is None else open_file(path)
    _PLACES.clear()


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, an IPv4-mapped IPv6 one as IPv4, or None for anything else."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _look_up(text: str) -> Place:
    address = parse_address(text)
    if address is None or not address.is_global:
        return NOWHERE
    if _database is None:
        country = iptocc.country_code(str(address))
        return Place(country) if country else NOWHERE
    try:
        return _read_record(_database.get(address))
    except (ValueError, maxminddb.InvalidDatabaseError):  # an IPv6 address in an IPv4 file, a damaged record
        return NOWHERE


def _read_record(record: Any) -> Place:
    """Read the fields of MaxMind's GeoIP2 and GeoLite2 City and Country records, and of DB-IP's in the same form."""
    if not isinstance(record, dict):
        return NOWHERE
    country = record.get("country") or record.get("registered_country")
    code = country.get("iso_code") if isinstance(country, dict) else country
    regions = record.get("subdivisions")
    region = regions[0] if isinstance(regions, list) and regions else None
    return Place(code if isinstance(code, str) and len(code) == 2 else None, _name(region), _name(record.get("city")))


def _name(part: Any) -> str | None:
    names = part.get("names") if isinstance(part, dict) else None
    if not isinstance(names, dict):
        return None
    name = names.get("en") or next(iter(names.values()), None)
    return name.replace("\x00", "")[:_NAME_LENGTH] or None if isinstance(name, str) else None


_PLACES: Memo[str, Place] = Memo(_look_up, size=16384)


def locate(address: str) -> Place:
    """Return where `address` is; nowhere for a private address or junk. Never raises."""
    return _PLACES[address] if len(address) <= _ADDRESS_LENGTH else NOWHERE
