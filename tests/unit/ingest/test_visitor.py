"""Visitor hashes."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.visitor import Identity

DAY = date(2026, 3, 4)
NEXT = DAY + timedelta(days=1)


def make() -> Identity:
    return Identity({DAY: b"a" * 32, NEXT: b"b" * 32}, b"s" * 32)


def test_same_visitor_same_hash_the_same_day() -> None:
    assert make().visitor(1, None, "8.8.8.8", "Firefox", DAY) == make().visitor(1, None, "8.8.8.8", "Firefox", DAY)


def test_any_difference_is_another_visitor() -> None:
    identity = make()
    hashes = {
        identity.visitor(1, None, "8.8.8.8", "Firefox", DAY),
        identity.visitor(2, None, "8.8.8.8", "Firefox", DAY),
        identity.visitor(1, None, "8.8.8.9", "Firefox", DAY),
        identity.visitor(1, None, "8.8.8.8", "Chrome", DAY),
        identity.visitor(1, None, "8.8.8.8", "Firefox", NEXT),
        identity.visitor(1, "client-id", "8.8.8.8", "Firefox", DAY),
        Identity({DAY: b"c" * 32}, b"s" * 32).visitor(1, None, "8.8.8.8", "Firefox", DAY),
    }
    assert len(hashes) == 7


def test_a_clients_own_id_outlasts_the_day_address_and_salts() -> None:
    identity = make()
    first = identity.visitor(1, "u-1", "8.8.8.8", "Firefox", DAY)
    assert identity.visitor(1, "u-1", "1.1.1.1", "Chrome", NEXT) == first
    assert Identity({}, b"s" * 32).visitor(1, "u-1", "", "", DAY) == first
    assert identity.visitor(2, "u-1", "8.8.8.8", "Firefox", DAY) != first
    assert Identity({}, b"t" * 32).visitor(1, "u-1", "", "", DAY) != first


def test_the_session_is_the_clients_else_the_visitor() -> None:
    identity = make()
    assert identity.session_key(1, None, 42) == 42
    session = identity.session_key(1, "s-1", 42)
    assert session == identity.session_key(1, "s-1", 7)
    assert session not in (42, identity.session_key(2, "s-1", 42), identity.visitor(1, "s-1", "", "", DAY))


def test_workers_with_the_same_salts_agree_on_a_day_without_one() -> None:
    later = NEXT + timedelta(days=1)
    first, second = make(), make()
    assert first.salt(later) == second.salt(later)
    assert first.salt(later) not in (first.salt(NEXT), first.salt(DAY))
    assert len(first.salt(later)) == 32


def test_they_agree_whatever_days_they_had_events_on() -> None:
    days = [NEXT + timedelta(days=n) for n in range(1, 5)]
    busy, quiet = make(), make()
    assert len({busy.salt(day) for day in days}) == 4
    assert quiet.salt(days[-1]) == busy.salt(days[-1])


def test_a_salt_is_never_derived_from_the_lasting_secret() -> None:
    assert Identity({}, b"s" * 32).salt(DAY) != Identity({}, b"s" * 32).salt(DAY)


@given(st.none() | st.text(), st.text(), st.text(alphabet=st.characters()))
def test_hashes_fit_a_signed_bigint(visitor_id: str | None, address: str, user_agent: str) -> None:
    assert -(2**63) <= make().visitor(1, visitor_id, address, user_agent, DAY) < 2**63
